//! Printing a tensor as PyTorch does, with its default options (`torch/_tensor_str.py`).

use std::fmt;

use ndarray::{ArrayViewD, Axis};
use ndnn_derive::concrete;

use super::{DType, Element, Tensor};

/// Above this many elements only the edges are printed.
const THRESHOLD: usize = 1000;
/// How many elements are printed at either edge of an axis then.
const EDGE: usize = 3;
/// The width at which a row, or what follows the elements, goes on in the next line.
const LINE: usize = 80;
/// The digits after the point, unless the format string says otherwise.
const PRECISION: usize = 4;

const PREFIX: &str = "tensor(";

/// As PyTorch prints a tensor, to the letter; only `grad_fn` names our own operation. `{:.2}` prints two digits after the
/// point instead of four.
///
/// ```
/// use ndnn::prelude::*;
/// let x = tensor![[1.0, -0.5], [2.0, 1000.0]];
/// assert_eq!(x.to_string(), "tensor([[ 1.0000e+00, -5.0000e-01],\n        [ 2.0000e+00,  1.0000e+03]])");
/// assert_eq!(tensor![1, 2].to_string(), "tensor([1, 2])");
/// ```
impl<T: Element> fmt::Display for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printed(self, f.precision().unwrap_or(PRECISION)))
    }
}

#[concrete]
fn printed<T: Element>(tensor: &Tensor<T>, precision: usize) -> String {
    let mut text = format!("{PREFIX}{}", Elements::of(tensor, precision).text());
    let mut width = text.len() - text.rfind('\n').unwrap_or(0) + if text.contains('\n') { 1 } else { 2 };
    for suffix in suffixes(tensor) {
        if width + suffix.len() + 2 > LINE {
            text += &format!(",\n{:1$}{suffix}", "", PREFIX.len());
            width = PREFIX.len() + suffix.len();
        } else {
            text += &format!(", {suffix}");
            width += suffix.len() + 2;
        }
    }
    text + ")"
}

/// As `Display`.
impl<T: Element> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What follows the elements.
fn suffixes<T: Element>(tensor: &Tensor<T>) -> Vec<String> {
    let mut suffixes = Vec::new();
    let empty = tensor.numel() == 0;
    if empty && tensor.ndim() != 1 {
        let sizes: Vec<String> = tensor.shape().iter().map(usize::to_string).collect();
        suffixes.push(format!("size=({})", sizes.join(", ")));
    }
    // An empty tensor shows no element to tell an integer or a bool by.
    match T::DTYPE {
        DType::F64 => suffixes.push("dtype=torch.float64".into()),
        DType::I64 if empty => suffixes.push("dtype=torch.int64".into()),
        DType::Bool if empty => suffixes.push("dtype=torch.bool".into()),
        _ => {}
    }
    if let Some(name) = tensor.grad_fn() {
        suffixes.push(format!("grad_fn=<{name}>"));
    } else if tensor.requires_grad() {
        suffixes.push("requires_grad=True".into());
    }
    suffixes
}

/// How every number of one tensor is written.
#[derive(Clone, Copy)]
enum Style {
    /// `7`, `True`
    Plain,
    /// `7.`
    Whole,
    /// `7.0000`
    Fixed,
    /// `7.0000e+00`
    Scientific,
}

struct Elements<'a, T: Element> {
    view: ArrayViewD<'a, T>,
    summarize: bool,
    style: Style,
    precision: usize,
    /// The width of a column.
    width: usize,
}

impl<'a, T: Element> Elements<'a, T> {
    fn of(tensor: &'a Tensor<T>, precision: usize) -> Self {
        let (view, summarize) = (tensor.view(), tensor.numel() > THRESHOLD);
        let mut elements = Elements { view, summarize, style: Style::Plain, precision, width: 1 };
        let mut shown = Vec::new();
        elements.gather(elements.view.view(), &mut shown);
        if matches!(T::DTYPE, DType::F32 | DType::F64) {
            // Zeros, infinities and NaN have no say in style and width.
            shown.retain(|x| x.as_f64().is_finite() && *x != T::ZERO);
            elements.style = float_style(&shown);
        }
        elements.width = shown.iter().map(|&x| elements.number(x).len()).max().unwrap_or(1);
        elements
    }

    /// The indices of an axis of length `n` that are printed; `None` is the gap between the edges.
    fn edges(&self, n: usize) -> impl Iterator<Item = Option<usize>> {
        let gap = self.summarize && n > 2 * EDGE;
        let head = if gap { EDGE } else { n };
        let tail = if gap { n - EDGE } else { n };
        (0..head).map(Some).chain(gap.then_some(None)).chain((tail..n).map(Some))
    }

    /// Every element that is printed.
    fn gather(&self, view: ArrayViewD<'_, T>, shown: &mut Vec<T>) {
        match view.ndim() {
            0 => shown.extend(view.first()),
            // Without elements an axis may be of any length.
            _ if view.is_empty() => {}
            _ => {
                self.edges(view.len_of(Axis(0))).flatten().for_each(|i| self.gather(view.index_axis(Axis(0), i), shown))
            }
        }
    }

    fn text(&self) -> String {
        if self.view.is_empty() {
            return "[]".into();
        }
        self.array(self.view.view(), PREFIX.len())
    }

    fn array(&self, view: ArrayViewD<'_, T>, indent: usize) -> String {
        if view.ndim() == 0 {
            return self.column(view[[]]);
        }
        let row = view.ndim() == 1;
        let parts: Vec<String> = self
            .edges(view.len_of(Axis(0)))
            .map(|i| match i {
                Some(i) => self.array(view.index_axis(Axis(0), i), indent + 1),
                None => if row { " ..." } else { "..." }.into(),
            })
            .collect();
        let next_line = format!(",{}{:2$}", "\n".repeat(view.ndim().max(2) - 1), "", indent + 1);
        if !row {
            return format!("[{}]", parts.join(&next_line));
        }
        let per_line = (LINE.saturating_sub(indent) / (self.width + 2)).max(1);
        let lines: Vec<String> = parts.chunks(per_line).map(|line| line.join(", ")).collect();
        format!("[{}]", lines.join(&next_line))
    }

    fn column(&self, x: T) -> String {
        format!("{:>1$}", self.number(x), self.width)
    }

    fn number(&self, x: T) -> String {
        let v = x.as_f64();
        match self.style {
            Style::Plain if T::DTYPE == DType::Bool => if x == T::ZERO { "False" } else { "True" }.into(),
            Style::Plain => x.to_string(),
            _ if v.is_nan() => "nan".into(),
            _ if v.is_infinite() => v.to_string(),
            Style::Whole => format!("{v:.0}."),
            Style::Fixed => format!("{v:.0$}", self.precision),
            Style::Scientific => {
                // Rust writes 1e-8 where C and Python write 1e-08.
                let text = format!("{v:.0$e}", self.precision);
                let (digits, exponent) = text.split_once('e').expect("written with an exponent");
                let exponent: i32 = exponent.parse().expect("a whole number");
                format!("{digits}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
            }
        }
    }
}

/// The style for these numbers, all finite and not zero.
fn float_style<T: Element>(numbers: &[T]) -> Style {
    let (low, high) = numbers
        .iter()
        .map(|x| x.as_f64().abs())
        .fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), x| (low.min(x), high.max(x)));
    if numbers.is_empty() {
        Style::Whole
    } else if high / low > 1000.0 || high > 1e8 || low < 1e-4 {
        Style::Scientific
    } else if numbers.iter().all(|x| x.as_f64().fract() == 0.0) {
        Style::Whole
    } else {
        Style::Fixed
    }
}
