//! [`Error`] and [`Result`]: what went wrong, in which operation, in which layer.

use std::{any::TypeId, fmt};

/// The result of everything that can fail on a caller's shapes, values or files.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The value, or a panic with the error's text at the caller's line: a closure in `unwrap_or_else` would lose that
/// line.
#[track_caller]
pub(crate) fn or_panic<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

/// The kind of an [`Error`]; its text has the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Shapes, ranks or axes that do not match.
    Shape,
    /// A value outside the range in which the operation is defined.
    Value,
    /// An index, or a class, that does not exist.
    Index,
    /// The graph of gradients: nothing to differentiate, or a graph already freed.
    Graph,
    /// A state_dict or a parameter name that does not match the model.
    State,
    /// A file that cannot be read or written.
    Io,
    /// A file or text that is not in the format it should be in.
    Format,
}

/// An error: the operation, what it was given, what was expected, and where it happened.
///
/// ```
/// use ndnn::prelude::*;
/// let layer = Linear::new(400, 10);
/// let error = layer.forward(&Tensor::zeros([32, 256])).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "linear: the input's last axis has 256 features ([32, 256]), weight [10, 400] expects 400; \
///      in Linear(in_features=400, out_features=10, bias=True)"
/// );
/// ```
///
/// An error inside a model has the path to the layer, from the model's name through fields and positions:
///
/// ```
/// use ndnn::prelude::*;
/// #[derive(Module)]
/// struct Net { encoder: Sequential, head: Linear }
/// #[forward]
/// impl Forward for Net {
///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
///         self.head.forward(&self.encoder.forward(x)?)
///     }
/// }
/// let net = Net { encoder: sequential![Tanh, Linear::new(4, 8)], head: Linear::new(8, 2) };
/// let error = net.forward(&Tensor::zeros([32, 5])).unwrap_err().to_string();
/// assert!(error.ends_with("; in Net.encoder.1 (Linear(in_features=4, out_features=8, bias=True))"), "{error}");
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    within: Vec<String>,
    place: Option<Place>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error of the given kind in the operation `op`.
    pub fn new(kind: ErrorKind, op: &str, message: impl fmt::Display) -> Self {
        Self::of(kind, op, &message)
    }

    #[cold]
    #[inline(never)]
    fn of(kind: ErrorKind, op: &str, message: &dyn fmt::Display) -> Self {
        Error(Box::new(Inner {
            kind,
            message: format!("{op}: {message}"),
            within: Vec::new(),
            place: None,
            source: None,
        }))
    }

    /// Shapes, ranks or axes that do not match.
    pub fn shape(op: &str, message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Shape, op, message)
    }

    /// A value outside the range in which the operation is defined.
    pub fn value(op: &str, message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Value, op, message)
    }

    /// An index, or a class, that does not exist.
    pub fn index(op: &str, message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Index, op, message)
    }

    /// A state_dict or a parameter name that does not match the model.
    pub fn state(op: &str, message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::State, op, message)
    }

    /// Attaches the error that caused this one.
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds where it happened; called from the inside out, once for each place.
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.close();
        self.0.within.push(place.to_string());
        self
    }

    /// Identifies the outermost module that this error has left so far.
    pub(crate) fn place(&self) -> Option<ModuleId> {
        self.0.place.as_ref().map(|p| p.outermost)
    }

    /// Adds the module where it happened, which does not contain the one recorded before.
    pub(crate) fn at(mut self, module: ModuleId, name: String, layer: String) -> Self {
        self.close();
        self.0.place = Some(Place { outermost: module, name, path: String::new(), layer });
        self
    }

    /// Records that the outermost module so far is at `path` in this one.
    pub(crate) fn below(mut self, module: ModuleId, name: String, path: &str) -> Self {
        if let Some(place) = &mut self.0.place {
            place.path = if place.path.is_empty() { path.to_string() } else { format!("{path}.{}", place.path) };
            (place.outermost, place.name) = (module, name);
        }
        self
    }

    /// Completes the place: nothing is added to it any more.
    fn close(&mut self) {
        if let Some(place) = self.0.place.take() {
            self.0.within.push(place.to_string());
        }
    }

    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        for place in &self.0.within {
            write!(f, "; in {place}")?;
        }
        self.0.place.as_ref().map_or(Ok(()), |place| write!(f, "; in {place}"))
    }
}

/// A module's address and type, which identify it.
pub(crate) type ModuleId = (usize, TypeId);

/// Where in a model it happened, up to the outermost module that the error has left: `Net.encoder.0 (Linear(…))`.
struct Place {
    /// The module that the error left last.
    outermost: ModuleId,
    /// The name of that module.
    name: String,
    /// The path from there to the innermost module.
    path: String,
    /// The printed form of the innermost module.
    layer: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => f.write_str(&self.layer),
            false => write!(f, "{}.{} ({})", self.name, self.path, self.layer),
        }
    }
}

/// As `Display`: `main() -> Result<()>` prints errors with `Debug`.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|s| s.as_ref() as _)
    }
}

/// A list for a message: the first ten items, and how many more there are.
pub(crate) fn listed<S: fmt::Display>(items: impl ExactSizeIterator<Item = S>) -> String {
    const SHOWN: usize = 10;
    let more = items.len().saturating_sub(SHOWN);
    let mut shown = Vec::new();
    for item in items.take(SHOWN) {
        shown.push(item.to_string());
    }
    if more == 0 { shown.join(", ") } else { format!("{} and {more} more", shown.join(", ")) }
}

/// `there are a, b`, for an error that a name is not among these.
pub(crate) fn there_are<S: fmt::Display>(names: impl ExactSizeIterator<Item = S>) -> String {
    if names.len() == 0 { "there are none".into() } else { format!("there are {}", listed(names)) }
}
