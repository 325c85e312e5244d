//! Printing a tensor as PyTorch does, with its default options (`torch/_tensor_str.py`).

use std::fmt::{self, Write};

use ndarray::{ArrayViewD, Axis};
use ndnn_derive::concrete;

use super::{DType, Element, Tensor};
use crate::python::py_scientific;

/// The number of elements above which only the edges are printed.
const THRESHOLD: usize = 1000;
/// The number of elements printed at each end of an axis in that case.
const EDGE: usize = 3;
/// The width after which a row, or what follows the elements, continues on the next line.
const LINE: usize = 80;
/// The digits after the decimal point, unless the format string says otherwise.
const PRECISION: usize = 4;

const PREFIX: &str = "tensor(";

/// Prints exactly what PyTorch prints; only `grad_fn` shows our own operation's name. `{:.2}` prints two digits after
/// the decimal point instead of four.
///
/// ```
/// use ndnn::prelude::*;
/// let x = tensor![[1.0, -0.5], [2.0, 1000.0]];
/// assert_eq!(x.to_string(), "tensor([[ 1.0000e+00, -5.0000e-01],\n        [ 2.0000e+00,  1.0000e+03]])");
/// assert_eq!(tensor![1, 2].to_string(), "tensor([1, 2])");
/// ```
impl<T: Element> fmt::Display for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self, f.precision().unwrap_or(PRECISION), f)
    }
}

#[concrete]
fn print<T: Element>(tensor: &Tensor<T>, precision: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut out = Columns { out: f, at: 0 };
    out.write_str(PREFIX)?;
    Elements::of(tensor, precision).write(&mut out)?;
    let mut width = out.at + 2;
    for suffix in suffixes(tensor) {
        if width + suffix.len() + 2 > LINE {
            write!(out, ",\n{:1$}{suffix}", "", PREFIX.len())?;
            width = PREFIX.len() + suffix.len();
        } else {
            write!(out, ", {suffix}")?;
            width += suffix.len() + 2;
        }
    }
    out.write_char(')')
}

/// Counts what was written in the current line. It stores no text, since a tensor may be printed with all its elements.
struct Columns<'a, 'f> {
    out: &'a mut fmt::Formatter<'f>,
    at: usize,
}

impl fmt::Write for Columns<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.at = text.rfind('\n').map_or(self.at + text.len(), |end| text.len() - end - 1);
        self.out.write_str(text)
    }
}

/// As `Display`.
impl<T: Element> fmt::Debug for Tensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is printed after the elements.
fn suffixes<T: Element>(tensor: &Tensor<T>) -> Vec<String> {
    let mut suffixes = Vec::new();
    let empty = tensor.numel() == 0;
    if empty && tensor.ndim() != 1 {
        let sizes: Vec<String> = tensor.shape().iter().map(usize::to_string).collect();
        suffixes.push(format!("size=({})", sizes.join(", ")));
    }
    // An empty tensor shows no element from which one could see an integer or bool type.
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

/// How the numbers of a tensor are written.
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
        let floats = matches!(T::DTYPE, DType::F32 | DType::F64);
        // Zeros, infinities and NaN do not influence style and width.
        let counts = |x: T| !floats || (x.as_f64().is_finite() && x != T::ZERO);
        if floats {
            let mut seen = Seen::default();
            elements.visit(elements.view.view(), &mut |x| {
                if counts(x) {
                    seen.add(x.as_f64())
                }
            });
            elements.style = seen.style();
        }
        let mut width = None;
        elements.visit(elements.view.view(), &mut |x| {
            if counts(x) {
                width = width.max(Some(elements.number(x).len()));
            }
        });
        elements.width = width.unwrap_or(1);
        elements
    }

    /// The indices that are printed on an axis of length `n`; `None` is the gap between the edges.
    fn edges(&self, n: usize) -> impl Iterator<Item = Option<usize>> {
        let gap = self.summarize && n > 2 * EDGE;
        let head = if gap { EDGE } else { n };
        let tail = if gap { n - EDGE } else { n };
        (0..head).map(Some).chain(gap.then_some(None)).chain((tail..n).map(Some))
    }

    /// Calls `f` with every element that is printed.
    fn visit(&self, view: ArrayViewD<'_, T>, f: &mut dyn FnMut(T)) {
        match view.ndim() {
            0 => view.first().copied().into_iter().for_each(f),
            // Without elements an axis may have any length.
            _ if view.is_empty() => {}
            _ => self.edges(view.len_of(Axis(0))).flatten().for_each(|i| self.visit(view.index_axis(Axis(0), i), f)),
        }
    }

    fn write(&self, out: &mut dyn Write) -> fmt::Result {
        match self.view.is_empty() {
            true => out.write_str("[]"),
            false => self.array(self.view.view(), PREFIX.len(), out),
        }
    }

    fn array(&self, view: ArrayViewD<'_, T>, indent: usize, out: &mut dyn Write) -> fmt::Result {
        if view.ndim() == 0 {
            return write!(out, "{:>1$}", self.number(view[[]]), self.width);
        }
        let row = view.ndim() == 1;
        let per_line = if row { (LINE.saturating_sub(indent) / (self.width + 2)).max(1) } else { 1 };
        let next_line = format!(",{}{:2$}", "\n".repeat(view.ndim().max(2) - 1), "", indent + 1);
        out.write_char('[')?;
        for (k, i) in self.edges(view.len_of(Axis(0))).enumerate() {
            if k > 0 {
                out.write_str(if k % per_line == 0 { &next_line } else { ", " })?;
            }
            match i {
                Some(i) => self.array(view.index_axis(Axis(0), i), indent + 1, out)?,
                None => out.write_str(if row { " ..." } else { "..." })?,
            }
        }
        out.write_char(']')
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
            Style::Scientific => py_scientific(&format!("{v:.0$e}", self.precision)).0,
        }
    }
}

/// What decides the style: the numbers that are finite and not zero.
struct Seen {
    any: bool,
    low: f64,
    high: f64,
    whole: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Seen { any: false, low: f64::INFINITY, high: 0.0, whole: true }
    }
}

impl Seen {
    fn add(&mut self, x: f64) {
        let size = x.abs();
        *self = Seen {
            any: true,
            low: self.low.min(size),
            high: self.high.max(size),
            whole: self.whole && x.fract() == 0.0,
        };
    }

    fn style(&self) -> Style {
        if !self.any {
            Style::Whole
        } else if self.high / self.low > 1000.0 || self.high > 1e8 || self.low < 1e-4 {
            Style::Scientific
        } else if self.whole {
            Style::Whole
        } else {
            Style::Fixed
        }
    }
}
