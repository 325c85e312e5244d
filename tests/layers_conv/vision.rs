//! Interpolation, shuffles, and sampling at the places of a grid: against PyTorch's numbers, finite differences, and
//! PyTorch's rules.

use ndnn::{
    functional::{
        self as F, GridSampleMode, GridSampleOptions, GridSamplePadding, InterpolateMode, InterpolateOptions, Resize,
    },
    prelude::*,
    random::{Generator, SeedableRng},
    with_num_threads,
};

use super::{
    T, close,
    common::{check, panic_of},
    strided,
};

fn error<V>(result: Result<V>) -> String {
    result.err().expect("an error").to_string()
}

/// Each mode with the options that it takes.
fn options() -> Vec<(usize, InterpolateOptions)> {
    let mut all = Vec::new();
    for axes in 1..=3 {
        for mode in [InterpolateMode::Nearest, InterpolateMode::NearestExact, InterpolateMode::Area] {
            all.push((axes, mode.into()));
        }
    }
    let modes = [(1, "linear"), (2, "bilinear"), (2, "bicubic"), (3, "trilinear")];
    for ((axes, mode), aligned) in modes.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        all.push((axes, InterpolateOptions::from(mode).align_corners(aligned)));
        if axes == 2 {
            all.push((axes, InterpolateOptions::from(mode).align_corners(aligned).antialias(true)));
        }
    }
    all.push((2, InterpolateOptions::from("lanczos").antialias(true)));
    all
}

#[test]
fn interpolation_has_its_derivatives() {
    let mut rng = Generator::seed_from_u64(1);
    for (axes, options) in options() {
        let x = strided(&[&[2, 1][..], &[4, 3, 2][..axes]].concat(), &mut rng);
        let larger_and_smaller = match axes {
            1 => Resize::size([7]),
            2 => Resize::size([2, 5]),
            _ => Resize::size([6, 1, 3]),
        };
        for to in [larger_and_smaller, Resize::scale_factor(1.7), Resize::scale_factor(0.6)] {
            let f = |t: &[T]| F::interpolate(&t[0], to, options);
            check(f, std::slice::from_ref(&x));
            close(&f(std::slice::from_ref(&x)).unwrap(), &f(&[x.contiguous()]).unwrap());
        }
    }
}

/// From PyTorch, which has no cases of antialiasing in its own samples.
#[test]
fn antialiased_as_in_pytorch() {
    let rows = [
        [0., 3., 1., -2., 5., 4., 7.],
        [1., -1., 2., 0., 6., -3., 2.],
        [4., 4., -5., 1., 0., 2., 8.],
        [2., 6., 3., -4., 1., 1., 0.],
        [9., -7., 5., 2., 3., 8., -6.],
    ];
    let x = T::from_vec([1, 1, 5, 7], rows.concat()).unwrap();
    let expected = [
        (
            "bilinear",
            false,
            [
                1.2727272727272725,
                0.8850267379679143,
                2.8474025974025974,
                2.503246753246753,
                0.7406417112299464,
                1.7532467532467526,
            ],
        ),
        (
            "bilinear",
            true,
            [
                1.3425925925925926,
                1.6213991769547322,
                2.6666666666666665,
                1.7777777777777777,
                1.8395061728395063,
                0.03703703703703709,
            ],
        ),
        (
            "bicubic",
            false,
            [
                1.154874235424146,
                0.7680014530408229,
                3.115042493598501,
                2.6138274100872523,
                0.684189684189684,
                1.647717599489253,
            ],
        ),
        (
            "bicubic",
            true,
            [
                1.3443265165242904,
                1.5025231837492958,
                3.0990786282010707,
                2.1112069481880806,
                1.8384546271338726,
                -1.2764633456457346,
            ],
        ),
        (
            "lanczos",
            false,
            [
                1.1470236409813295,
                0.571788198817377,
                3.3052968448306275,
                2.596265796219443,
                0.6603502554027718,
                1.6050363417369176,
            ],
        ),
    ];
    for (mode, aligned, values) in expected {
        let mut options = InterpolateOptions::from(mode).antialias(true);
        if mode != "lanczos" {
            options = options.align_corners(aligned);
        }
        let y = F::interpolate(&x, Resize::size([2, 3]), options).unwrap();
        close(&y, &T::from_vec([1, 1, 2, 3], values.to_vec()).unwrap());
    }
    let y = F::interpolate(&x, Resize::scale_factor([0.5, 1.5]), InterpolateOptions::from("bicubic").antialias(true));
    let y = y.unwrap();
    assert_eq!(y.shape(), [1, 1, 2, 10]);
    close(
        &y.narrow(-1, 0, 2).unwrap().narrow(2, 0, 1).unwrap(),
        &tensor![[[[0.7276480951332306, 1.042825498400197]]]; f64],
    );
}

#[test]
fn a_given_factor_is_used_unless_it_is_recomputed() {
    let x = tensor![[[0.0, 1.0, 2.0]]; f64];
    let to = Resize::scale_factor(1.9);
    let given = F::interpolate(&x, to, "linear").unwrap();
    let recomputed = F::interpolate(&x, to, InterpolateOptions::from("linear").recompute_scale_factor(true)).unwrap();
    close(&recomputed, &F::interpolate(&x, Resize::size(5), "linear").unwrap());
    let place = |i: f64| ((i + 0.5) / 1.9 - 0.5).clamp(0., 2.);
    close(&given, &T::from_vec([1, 1, 5], (0..5).map(|i| place(f64::from(i))).collect::<Vec<_>>()).unwrap());
    assert_ne!(given, recomputed);
    // (7 + ½) / 0.3 is a little less than 25, in PyTorch too, which rounds it to single precision.
    let x = T::arange(0., 34., 1.).unwrap().reshape([1, 1, 34]).unwrap();
    let y = F::interpolate(&x, Resize::scale_factor(0.1 + 0.2), "nearest-exact").unwrap();
    assert_eq!(y.to_vec()[7], 25.);
}

/// As PyTorch: an infinite neighbour counts with its weight, even if that is 0; the nearest element is kept as it is.
#[test]
fn interpolation_of_extreme_numbers() {
    let x = tensor![[[1.0, f32::INFINITY, 3.0]]];
    let y = F::interpolate(&x, Resize::size(5), "linear").unwrap().to_vec();
    assert!(y[0].is_nan() && y[1..4].iter().all(|&y| y == f32::INFINITY) && y[4] == 3.);
    let x = tensor![[[-0.0, f32::NAN, 1e-40, 3e38]]];
    let y = F::interpolate(&x, Resize::size(8), "nearest").unwrap().to_vec();
    let twice: Vec<u32> = x.to_vec().iter().flat_map(|x| [x.to_bits(); 2]).collect();
    assert_eq!(y.iter().map(|y| y.to_bits()).collect::<Vec<_>>(), twice);
    for mode in ["nearest", "linear"] {
        let y = F::interpolate(&tensor![[[3e38, 3e38]]], Resize::size(5), mode).unwrap();
        assert!(y.to_vec().iter().all(|&y| y == 3e38), "{mode}: {y}");
    }
    // A weight of 0 passes no gradient, not even an infinite one.
    let x = tensor![[[1.0, 2.0]]].set_requires_grad(true);
    let y = F::interpolate(&x, Resize::size(2), "linear").unwrap();
    y.backward_with(&tensor![[[f32::INFINITY, 1.0]]]).unwrap();
    assert_eq!(x.grad().unwrap(), tensor![[[f32::INFINITY, 1.0]]]);
}

#[test]
fn interpolation_of_no_elements_and_of_one() {
    let empty = T::zeros([0, 2, 3]).set_requires_grad(true);
    let y = F::interpolate(&empty, Resize::size(1 << 40), "linear").unwrap();
    assert_eq!(y.shape(), [0, 2, 1 << 40]);
    y.sum().backward().unwrap();
    assert_eq!(empty.grad().unwrap().shape(), [0, 2, 3]);
    assert_eq!(F::interpolate(&T::zeros([2, 0, 3]), Resize::size(4), "area").unwrap().shape(), [2, 0, 4]);
    assert_eq!(F::interpolate(&T::zeros([2, 1, 3]), Resize::size(0), "area").unwrap().shape(), [2, 1, 0]);
    for (axes, options) in options() {
        let one = T::full([&[1, 1][..], &[1, 1, 1][..axes]].concat(), 2.5);
        close(&F::interpolate(&one, Resize::size(1), options).unwrap(), &one);
        let three = F::interpolate(&one, Resize::size(3), options).unwrap();
        close(&three, &T::full(three.shape(), 2.5));
    }
    let told = error(F::interpolate(&T::zeros([2, 0, 3]), Resize::size(4), "nearest"));
    assert_eq!(told, "interpolate: the input [2, 0, 3] to [4]: only the batch may be empty");
    for (shape, size) in [([2, 1, 0], 4), ([2, 1, 3], 0)] {
        let told = error(F::interpolate(&T::zeros(shape), Resize::size(size), "linear"));
        assert!(told.ends_with("only the batch may be empty"), "{told}");
    }
    assert!(
        error(F::interpolate(&T::zeros([2, 1, 0]), Resize::size(4), "area")).ends_with("only the batch may be empty")
    );
}

#[test]
fn interpolation_refuses() {
    let image = T::zeros([1, 2, 3, 4]);
    let told = |x: &T, to, options: InterpolateOptions| error(F::interpolate(x, to, options));
    let two = Resize::size(2);
    let plain = |mode: &str| InterpolateOptions::from(mode);
    let cases = [
        (
            told(&T::zeros([2, 3]), two, plain("nearest")),
            "the input is [2, 3], expected (N, C, L), (N, C, H, W) or (N, C, D, H, W)",
        ),
        (told(&image, two, plain("linear")), "the input is [1, 2, 3, 4], the mode \"linear\" expects (N, C, L)"),
        (
            told(&image, two, plain("trilinear")),
            "the input is [1, 2, 3, 4], the mode \"trilinear\" expects (N, C, D, H, W)",
        ),
        (
            told(&image, two, plain("nearest").align_corners(false)),
            "the mode \"nearest\" has no align_corners; linear, bilinear, bicubic and trilinear have",
        ),
        (
            told(&image, two, plain("area").antialias(true)),
            "the mode \"area\" has no antialias; bilinear, bicubic and lanczos have",
        ),
        (told(&image, two, plain("lanczos")), "the mode \"lanczos\" needs antialias"),
        (
            told(&image, two, plain("lanczos").antialias(true).align_corners(true)),
            "the mode \"lanczos\" has no align_corners",
        ),
        (
            told(&image, two, plain("bilinear").recompute_scale_factor(true)),
            "recompute_scale_factor needs a scale factor, got size=2",
        ),
        (
            told(&image, Resize::size([2, 3, 4]), plain("nearest")),
            "size=(2, 3, 4) of an input with the sizes [3, 4]: expected one number per axis after the first two, or one for all",
        ),
        (
            told(&image, Resize::scale_factor([2.0]), plain("nearest")),
            "scale_factor=(2.0,) of an input with the sizes [3, 4]: expected one number per axis after the first two, or one for all",
        ),
        (
            told(&image, Resize::scale_factor(1e30), plain("nearest")),
            "scale_factor=1e+30 of an input with the sizes [3, 4]: the result is too large",
        ),
        (
            told(&image, Resize::size(1 << 40), plain("nearest")),
            "a result of shape [1, 2, 1099511627776, 1099511627776] does not fit into memory, it takes 19342813113834066795298816 bytes",
        ),
    ];
    for (told, expected) in cases {
        assert_eq!(told, format!("interpolate: {expected}"));
    }
    for factor in [0., -1., f64::NAN, f64::INFINITY] {
        let told = panic_of(|| Resize::scale_factor([2., factor]));
        assert!(told.starts_with("a scale factor is positive and finite, got (2.0, "), "{told}");
    }
    assert!(
        panic_of(|| InterpolateOptions::from("cubic"))
            .starts_with("mode: there is no \"cubic\"; expected one of \"nearest\"")
    );
}

#[test]
fn interpolation_has_the_same_bits_on_any_number_of_threads() {
    let mut rng = Generator::seed_from_u64(2);
    let x = Tensor::<f32>::randn_with([3, 7, 40, 50], &mut rng).set_requires_grad(true);
    let grid = (Tensor::<f32>::rand_with([3, 60, 70, 2], &mut rng) * 2.2 - 1.1).set_requires_grad(true);
    let run = || {
        let y = F::interpolate(&x, Resize::size([33, 90]), "bicubic")?;
        let z = F::grid_sample(&x, &grid, GridSampleOptions::default().padding_mode("reflection"))?;
        let grads = ndnn::autograd::grad(&[&(y.square().sum() + z.square().sum())], &[&x, &grid], false)?;
        Ok((y.to_vec(), z.to_vec(), grads.iter().map(|g| g.as_ref().unwrap().to_vec()).collect::<Vec<_>>()))
    };
    let one: Result<_> = with_num_threads(1, run);
    assert!(one.unwrap() == with_num_threads(3, run).unwrap());
}

#[test]
fn layers_are_their_functions() {
    let mut rng = Generator::seed_from_u64(3);
    let x = strided(&[2, 4, 3, 6], &mut rng);
    let to = Resize::scale_factor([2.0, 1.5]);
    let options = InterpolateOptions::from("bicubic").align_corners(true).recompute_scale_factor(true);
    let layer = Upsample::new(to).recompute_scale_factor(true).align_corners(true).mode("bicubic");
    assert_eq!(layer.forward(&x).unwrap(), F::interpolate(&x, to, options).unwrap());
    assert_eq!(layer.to_string(), "Upsample(scale_factor=(2.0, 1.5), mode='bicubic')");
    assert_eq!(UpsamplingNearest2d::new(to).forward(&x).unwrap(), F::upsample_nearest(&x, to).unwrap());
    assert_eq!(UpsamplingBilinear2d::new(to).forward(&x).unwrap(), F::upsample_bilinear(&x, to).unwrap());
    assert_eq!(F::upsample(&x, to, options).unwrap(), F::interpolate(&x, to, options).unwrap());
    assert_eq!(PixelShuffle::new(2).forward(&x).unwrap(), F::pixel_shuffle(&x, 2).unwrap());
    assert_eq!(PixelUnshuffle::new(3).forward(&x).unwrap(), F::pixel_unshuffle(&x, 3).unwrap());
    assert_eq!(ChannelShuffle::new(2).forward(&x).unwrap(), F::channel_shuffle(&x, 2).unwrap());
    let told = error(UpsamplingBilinear2d::new(Resize::size(2)).forward(&T::zeros([1, 2, 3])));
    let expected = "interpolate: the input is [1, 2, 3], the mode \"bilinear\" expects (N, C, H, W); in \
                    UpsamplingBilinear2d(size=2, mode='bilinear')";
    assert_eq!(told, expected);
    assert_eq!(panic_of(|| PixelShuffle::new(0)), "an upscale factor is at least 1, got 0");
    assert_eq!(panic_of(|| PixelUnshuffle::new(0)), "a downscale factor is at least 1, got 0");
    assert_eq!(panic_of(|| ChannelShuffle::new(0)), "groups are at least 1, got 0");
}

#[test]
fn shuffles_move_elements() {
    let mut rng = Generator::seed_from_u64(4);
    for shape in [&[2, 3, 8, 2, 3][..], &[2, 8, 3, 1], &[4, 2, 2], &[0, 4, 2, 2], &[4, 0, 2]] {
        let x = strided(shape, &mut rng);
        let y = F::pixel_shuffle(&x, 2).unwrap();
        assert_eq!(F::pixel_unshuffle(&y, 2).unwrap(), x);
        assert_eq!(F::pixel_shuffle(&x, 1).unwrap(), x);
        let n = shape.len();
        assert_eq!(y.shape()[n - 3..], [shape[n - 3] / 4, shape[n - 2] * 2, shape[n - 1] * 2]);
    }
    let x = strided(&[2, 6, 3, 2], &mut rng);
    let y = F::channel_shuffle(&x, 3).unwrap();
    for channel in 0..6 {
        let from = channel % 3 * 2 + channel / 3;
        assert_eq!(y.select(1, channel).unwrap(), x.select(1, from).unwrap());
    }
    assert_eq!(F::channel_shuffle(&y, 2).unwrap(), x);
    assert_eq!(F::channel_shuffle(&Tensor::<i64>::zeros([0, 4, 1 << 40]), 2).unwrap().shape(), [0, 4, 1 << 40]);
    for f in [|t: &[T]| F::pixel_shuffle(&t[0], 2), |t: &[T]| F::channel_shuffle(&t[0], 2)] {
        check(f, &[strided(&[1, 4, 2, 2], &mut rng)]);
    }
    let x = T::zeros([1, 6, 3, 4]);
    let cases = [
        (
            F::pixel_shuffle(&x, 2),
            "pixel_shuffle: the input [1, 6, 3, 4] has 6 channels, which cannot be divided by 2²",
        ),
        (F::pixel_shuffle(&x, 0), "pixel_shuffle: a factor of 0, expected at least 1"),
        (F::pixel_shuffle(&T::zeros([2, 2]), 1), "pixel_shuffle: the input is [2, 2], expected (*, C, H, W)"),
        (
            F::pixel_unshuffle(&x, 2),
            "pixel_unshuffle: the input [1, 6, 3, 4] is an image of 3 x 4, which cannot be divided by 2",
        ),
        (
            F::channel_shuffle(&x, 4),
            "channel_shuffle: the input [1, 6, 3, 4] has 6 channels, which 4 groups do not divide",
        ),
        (
            F::channel_shuffle(&x, 0),
            "channel_shuffle: the input [1, 6, 3, 4] has 6 channels, which 0 groups do not divide",
        ),
        (
            F::channel_shuffle(&T::zeros([2, 2]), 1),
            "channel_shuffle: the input is [2, 2], expected (N, C, *) with at least three axes",
        ),
    ];
    for (result, expected) in cases {
        assert_eq!(error(result), expected);
    }
}

/// Each combination of options.
fn grid_options() -> Vec<GridSampleOptions> {
    let mut all = Vec::new();
    for mode in [GridSampleMode::Bilinear, GridSampleMode::Nearest, GridSampleMode::Bicubic] {
        for padding in [GridSamplePadding::Zeros, GridSamplePadding::Border, GridSamplePadding::Reflection] {
            for aligned in [false, true] {
                all.push(GridSampleOptions::default().mode(mode).padding_mode(padding).align_corners(aligned));
            }
        }
    }
    all
}

/// PyTorch has no second derivative of it.
#[test]
fn sampling_has_its_derivatives() {
    let mut rng = Generator::seed_from_u64(5);
    for options in grid_options() {
        // Several channels in the one, several samples in the other.
        let image = [strided(&[1, 2, 2, 3], &mut rng), strided(&[1, 1, 3, 2], &mut rng) * 0.9];
        let volume = [strided(&[2, 1, 2, 2, 2], &mut rng), strided(&[2, 1, 1, 1, 3], &mut rng) * 0.9];
        for inputs in [image, volume] {
            let f = |t: &[T]| F::grid_sample(&t[0], &t[1], options);
            check(f, &inputs);
            close(&f(&inputs).unwrap(), &f(&inputs.clone().map(|t| t.contiguous())).unwrap());
        }
    }
}

/// As PyTorch where it gives a number: the border holds NaN at its start, and without a border NaN stays NaN.
#[test]
fn sampling_far_away_and_nowhere() {
    let x = T::from_vec([1, 1, 3, 3], (1..10).map(f64::from).collect::<Vec<_>>()).unwrap();
    let at = |options: GridSampleOptions, place: [f64; 2]| {
        let grid = T::from_vec([1, 1, 1, 2], place.to_vec()).unwrap();
        F::grid_sample(&x, &grid, options).unwrap().item().unwrap()
    };
    for options in grid_options() {
        let expected = match (options.get_mode(), options.get_padding_mode()) {
            (GridSampleMode::Nearest, GridSamplePadding::Zeros) => [0., 0., 0., 0.],
            (_, GridSamplePadding::Zeros) => [f64::NAN, f64::NAN, 0., 0.],
            (GridSampleMode::Bicubic, GridSamplePadding::Border) => [f64::NAN, f64::NAN, 6., 4.],
            (_, GridSamplePadding::Border) => [4., 6., 6., 4.],
            (GridSampleMode::Bicubic, GridSamplePadding::Reflection) => [f64::NAN, f64::NAN, 5., 5.],
            (_, GridSamplePadding::Reflection) => [4., 4., 5., 5.],
        };
        for (x, expected) in [f64::NAN, f64::INFINITY, 1e6, -1e6].into_iter().zip(expected) {
            let value = at(options, [x, 0.]);
            assert!(
                (value - expected).abs() < 1e-6 || value.is_nan() && expected.is_nan(),
                "{options:?}, {x}: {value}"
            );
        }
    }
}

/// The border stops gradients of the grid, infinite ones too; what lies outside gets none.
#[test]
fn sampling_in_flat_regions() {
    let x = tensor![[[[1.0, 2.0]]]].set_requires_grad(true);
    let grid = tensor![[[[-3.0, 0.0], [0.0, 0.0]]]].set_requires_grad(true);
    let y = F::grid_sample(&x, &grid, GridSampleOptions::default().padding_mode("border")).unwrap();
    y.backward_with(&tensor![[[[f32::INFINITY, 1.0]]]]).unwrap();
    assert_eq!(grid.grad().unwrap(), tensor![[[[0.0, 0.0], [1.0, 0.0]]]]);
    grid.zero_grad();
    let y = F::grid_sample(&x, &grid, GridSampleOptions::default().mode("nearest")).unwrap();
    y.sum().backward().unwrap();
    assert_eq!(grid.grad().unwrap(), grid.zeros_like());
}

#[test]
fn sampling_refuses_and_takes_empty_grids() {
    let told = |x: &[usize], grid: &[usize]| error(F::grid_sample(&T::zeros(x), &T::zeros(grid), Default::default()));
    let both = "expected (N, C, H, W) and (N, H', W', 2), or (N, C, D, H, W) and (N, D', H', W', 3)";
    let cases: [(&[usize], &[usize], &str); 6] = [
        (&[1, 2, 3], &[1, 2, 1], both),
        (&[1, 2, 3, 3], &[1, 2, 2, 2, 2], both),
        (&[], &[], both),
        (&[1, 2, 3, 3], &[1, 2, 2, 3], "expected a last axis of 2, one number for each axis after the channels"),
        (&[1, 2, 3, 3], &[2, 2, 2, 2], "expected equal batches"),
        (&[1, 2, 0, 3], &[1, 2, 2, 2], "only the batch, the channels and the grid may be empty"),
    ];
    for (x, grid, expected) in cases {
        assert_eq!(told(x, grid), format!("grid_sample: the input is {x:?}, the grid {grid:?}: {expected}"));
    }
    for (x, grid) in [([0, 2, 3, 3], [0, 2, 2, 2]), ([1, 0, 3, 3], [1, 2, 2, 2]), ([1, 2, 3, 3], [1, 0, 2, 2])] {
        let (x, grid) = (T::zeros(x).set_requires_grad(true), T::zeros(grid).set_requires_grad(true));
        let y = F::grid_sample(&x, &grid, GridSampleOptions::default().mode("bicubic")).unwrap();
        assert_eq!(y.shape(), [x.shape()[0], x.shape()[1], grid.shape()[1], 2]);
        y.sum().backward().unwrap();
        assert_eq!((x.grad().unwrap(), grid.grad().unwrap()), (x.zeros_like(), grid.zeros_like()));
    }
}

#[test]
fn affine_grids() {
    let mut rng = Generator::seed_from_u64(6);
    let x = strided(&[1, 2, 3, 4], &mut rng);
    let same = tensor![[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]; f64];
    for aligned in [false, true] {
        let grid = F::affine_grid(&same, x.shape(), aligned).unwrap();
        close(&F::grid_sample(&x, &grid, GridSampleOptions::default().align_corners(aligned)).unwrap(), &x);
        for (theta, size) in [(&[2, 2, 3][..], &[2, 1, 3, 1][..]), (&[1, 3, 4], &[1, 1, 2, 1, 3])] {
            let f = |t: &[T]| F::affine_grid(&t[0], size, aligned);
            check(f, &[strided(theta, &mut rng)]);
        }
    }
    let told = |theta: &[usize], size: &[usize]| error(F::affine_grid(&T::zeros(theta), size, false));
    assert_eq!(
        told(&[2, 2, 3], &[2, 3, 4]),
        "affine_grid: theta [2, 2, 3], size [2, 3, 4]: expected a size (N, C, H, W) or (N, C, D, H, W)"
    );
    assert_eq!(
        told(&[2, 2, 3], &[3, 1, 4, 4]),
        "affine_grid: theta [2, 2, 3], size [3, 1, 4, 4]: expected theta [3, 2, 3]"
    );
    assert_eq!(
        told(&[1, 2, 3], &[1, 1, 0, 4]),
        "affine_grid: theta [1, 2, 3], size [1, 1, 0, 4]: each size is at least 1"
    );
    assert!(told(&[1, 2, 3], &[1, 1, 1 << 40, 1 << 40]).contains("does not fit into memory"));
}

/// A U-Net of two levels: strided convolutions down, interpolation up, and the finer level beside the coarser one.
#[derive(Module)]
struct UNet {
    first: Conv2d,
    down: [Conv2d; 2],
    up: [Conv2d; 2],
    last: Conv2d,
}

impl UNet {
    fn new() -> Self {
        let conv = |from, to| Conv2d::new(from, to, 3).padding(1);
        UNet {
            first: conv(1, 4),
            down: [conv(4, 8).stride(2), conv(8, 16).stride(2)],
            up: [conv(16 + 8, 8), conv(8 + 4, 4)],
            last: Conv2d::new(4, 1, 1),
        }
    }
}

#[forward]
impl Forward for UNet {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let fine = F::relu(&self.first.forward(x)?);
        let middle = F::relu(&self.down[0].forward(&fine)?);
        let mut x = F::relu(&self.down[1].forward(&middle)?);
        for (beside, conv) in [middle, fine].iter().zip(&self.up) {
            let [.., h, w] = *beside.shape() else { unreachable!("an image") };
            x = F::interpolate(&x, Resize::size([h, w]), "bilinear")?;
            x = F::relu(&conv.forward(&Tensor::cat(&[&x, beside], 1)?)?);
        }
        self.last.forward(&x)
    }
}

#[test]
fn a_u_net_learns_to_find_squares() {
    ndnn::manual_seed(7);
    let mut rng = Generator::seed_from_u64(7);
    // A bright square of 5 pixels on noise; 11 x 13 pixels are not whole multiples of anything.
    let square = |i: usize| {
        let (top, left) = (i % 6, i * 3 % 8);
        let inside = move |k: usize| (top..top + 5).contains(&(k / 13)) && (left..left + 5).contains(&(k % 13));
        (0..11 * 13).map(move |k| f32::from(u8::from(inside(k))))
    };
    let target = Tensor::from_vec([8, 1, 11, 13], (0..8).flat_map(square).collect::<Vec<_>>()).unwrap();
    let x = &target + Tensor::randn_with([8, 1, 11, 13], &mut rng) * 0.3;
    let model = UNet::new();
    let mut adam = optim::Adam::new(&model, 3e-2);
    let mut losses = Vec::new();
    for _ in 0..30 {
        adam.zero_grad();
        let loss =
            F::binary_cross_entropy_with_logits(&model.forward(&x).unwrap(), &target, Default::default()).unwrap();
        loss.backward().unwrap();
        adam.step().unwrap();
        losses.push(loss.item().unwrap());
    }
    assert!(losses[29] < losses[0] / 2., "{losses:?}");
}
