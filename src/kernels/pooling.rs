//! Pooling: one number for each window.

use num_traits::Float;

use super::{
    im2col::{Span, Windows},
    memory::filled,
    sizes::saturating,
    threads,
};
use crate::tensor::Element;

/// From so many comparisons on, the work is split among threads.
const PARALLEL: usize = 200_000;
/// So many comparisons make a task.
const TASK: usize = 50_000;

/// The largest element of each window of each plane, and its place in the plane. The first of equals wins; NaN is larger
/// than anything, and the last NaN wins. `spans` are the windows' along each axis; none is empty.
pub fn max_pool<T: Float + Element>(x: &[T], windows: &Windows, spans: &[Vec<Span>; 3]) -> (Vec<T>, Vec<i64>) {
    let (from, to) = (windows.input_len(), windows.output_len());
    let planes = x.len() / from.max(1);
    let (mut values, mut places) = (filled(planes * to, T::ZERO), filled(planes * to, 0));
    let work = saturating([to, windows.kernel_len()]);
    // So many planes make a task.
    let step = if saturating([planes, work]) < PARALLEL { planes.max(1) } else { TASK.div_ceil(work) };
    let tasks = x.chunks(from * step).zip(values.chunks_mut(to * step)).zip(places.chunks_mut(to * step));
    threads::each(planes * work, tasks.collect(), |((x, values), places)| {
        for ((x, values), places) in x.chunks(from).zip(values.chunks_mut(to)).zip(places.chunks_mut(to)) {
            pool(x, windows, spans, values, places);
        }
    });
    (values, places)
}

/// One plane.
fn pool<T: Float>(x: &[T], windows: &Windows, spans: &[Vec<Span>; 3], values: &mut [T], places: &mut [i64]) {
    let [_, height, width] = windows.input;
    let [steps_d, steps_h, steps_w] = windows.dilation;
    let steps = |span: Span, by: usize| (span.start..).step_by(by).take(span.count);
    let mut out = values.iter_mut().zip(places);
    for &d in &spans[0] {
        for &h in &spans[1] {
            for &w in &spans[2] {
                let mut place = (d.start * height + h.start) * width + w.start;
                let mut best = T::neg_infinity();
                for row in steps(d, steps_d).flat_map(|d| steps(h, steps_h).map(move |h| (d * height + h) * width)) {
                    for at in steps(w, steps_w).map(|w| row + w) {
                        if x[at] > best || x[at].is_nan() {
                            (best, place) = (x[at], at);
                        }
                    }
                }
                let (value, to) = out.next().expect("as many windows");
                (*value, *to) = (best, place as i64);
            }
        }
    }
}
