//! The pictures of the examples, as SVG files.

#![allow(dead_code)] // each example draws some of them

use ndnn::prelude::*;
use plotters::{
    coord::Shift,
    prelude::*,
    style::{Color, RGBColor},
};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// One curve: its name and its points.
pub type Curve<'a> = (&'a str, Vec<(f32, f32)>);

const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 119, 180), RGBColor(214, 39, 40), RGBColor(44, 160, 44), RGBColor(148, 103, 189)];

/// Draws curves over a common axis, with a legend.
pub fn chart(area: &Area<'_>, title: &str, x_label: &str, curves: &[Curve<'_>]) {
    let points = || curves.iter().flat_map(|(_, points)| points.iter().copied());
    let range = |of: fn((f32, f32)) -> f32| {
        let (low, high) = points().map(of).fold((f32::MAX, f32::MIN), |(a, b), v| (a.min(v), b.max(v)));
        let margin = 0.05 * (high - low).max(1e-3);
        low - margin..high + margin
    };
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 22))
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(45)
        .build_cartesian_2d(range(|p| p.0), range(|p| p.1))
        .expect("a drawable range");
    chart
        .configure_mesh()
        .x_desc(x_label)
        .x_labels(6)
        .y_labels(6)
        .max_light_lines(0)
        .label_style(("sans-serif", 14))
        .draw()
        .expect("drawn");
    for (i, (name, points)) in curves.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        chart
            .draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))
            .expect("drawn")
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .label_font(("sans-serif", 14))
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()
        .expect("drawn");
}

/// Charts side by side in one file.
pub fn charts(path: &str, charts_: &[(&str, &str, Vec<Curve<'_>>)]) {
    let root = SVGBackend::new(path, (480 * charts_.len() as u32, 360)).into_drawing_area();
    root.fill(&WHITE).expect("drawn");
    for (area, (title, x_label, curves)) in root.split_evenly((1, charts_.len())).iter().zip(charts_) {
        chart(area, title, x_label, curves);
    }
    root.present().unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
}

/// Loss and test accuracy per epoch.
pub fn learning_curve(path: &str, losses: &[f32], accuracies: &[f32]) {
    let by_epoch = |values: &[f32], scale: f32| -> Vec<(f32, f32)> {
        values.iter().enumerate().map(|(i, v)| (i as f32 + 1., v * scale)).collect()
    };
    charts(
        path,
        &[
            ("training loss", "epoch", vec![("loss", by_epoch(losses, 1.))]),
            ("test accuracy, %", "epoch", vec![("accuracy", by_epoch(accuracies, 100.))]),
        ],
    );
}

/// A sheet of some images, each with its label and the predicted digit.
pub fn digits(path: &str, images: &Tensor, labels: &Tensor<i64>, predicted: &Tensor<i64>, chosen: &[usize]) {
    const COLUMNS: usize = 12;
    const CELL: i32 = 76;
    let chosen = &chosen[..chosen.len().min(COLUMNS * 8)];
    let rows = chosen.len().div_ceil(COLUMNS).max(1);
    let size = (COLUMNS as u32 * CELL as u32, rows as u32 * (CELL as u32 + 16));
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE).expect("drawn");
    for (i, &n) in chosen.iter().enumerate() {
        let (left, top) = ((i % COLUMNS) as i32 * CELL + 4, (i / COLUMNS) as i32 * (CELL + 16) + 16);
        let caption = format!("{} as {}", labels.view()[n], predicted.view()[n]);
        root.draw(&Text::new(caption, (left, top - 13), ("sans-serif", 12))).expect("drawn");
        digit(&root, images, n, (left, top));
    }
    root.present().unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
}

/// Rows of images, each with its name.
pub fn sheet(path: &str, rows: &[(&str, &Tensor)]) {
    const CELL: i32 = 76;
    const NAMES: i32 = 140;
    let columns = rows.iter().map(|(_, images)| images.shape()[0]).max().unwrap_or(0) as i32;
    let size = ((NAMES + columns * CELL) as u32, rows.len() as u32 * CELL as u32);
    let root = SVGBackend::new(path, size).into_drawing_area();
    root.fill(&WHITE).expect("drawn");
    for (row, (name, images)) in (0..).zip(rows) {
        root.draw(&Text::new(*name, (8, row * CELL + 30), ("sans-serif", 15))).expect("drawn");
        for (column, n) in (0..).zip(0..images.shape()[0]) {
            digit(&root, images, n, (NAMES + column * CELL, row * CELL + 3));
        }
    }
    root.present().unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
}

/// One image of 28 × 28 pixels, 70 wide.
fn digit(root: &Area<'_>, images: &Tensor, n: usize, (left, top): (i32, i32)) {
    for (y, x) in (0..28).flat_map(|y| (0..28).map(move |x| (y, x))) {
        let ink = images.view()[[n, 0, y, x]];
        if ink > 0.1 {
            let grey = (255. * (1. - ink)) as u8;
            let corner = (left + x as i32 * 5 / 2, top + y as i32 * 5 / 2);
            let square = [corner, (corner.0 + 3, corner.1 + 3)];
            root.draw(&Rectangle::new(square, RGBColor(grey, grey, grey).filled())).expect("drawn");
        }
    }
}
