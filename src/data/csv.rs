//! CSV files of numbers.

use std::{io::Read, path::Path};

use crate::{
    Error, Result,
    error::ErrorKind,
    kernels::sizes::too_large,
    tensor::{Real, Tensor},
};

/// How a CSV file is laid out.
///
/// ```
/// use ndnn::data::Csv;
/// let table = Csv::new().header(true).read::<f32>("a,b,label\n1,2,0\n3,4,1\n".as_bytes())?;
/// assert_eq!(table.shape(), [2, 3]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Csv {
    header: bool,
    delimiter: u8,
}

impl Default for Csv {
    fn default() -> Self {
        Csv { header: false, delimiter: b',' }
    }
}

impl Csv {
    /// Comma-separated, without a header.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the first line holds names and is skipped.
    pub fn header(mut self, header: bool) -> Self {
        self.header = header;
        self
    }

    /// What separates the values of a line; a comma by default.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// Reads numbers: one row per line, one column per value. An empty value is NaN.
    ///
    /// # Errors
    /// If a value is not a number or the rows differ in length; the error names the line and the column.
    pub fn read<T: Real>(&self, reader: impl Read) -> Result<Tensor<T>> {
        let mut lines = ::csv::ReaderBuilder::new()
            .has_headers(self.header)
            .delimiter(self.delimiter)
            .trim(::csv::Trim::All)
            .from_reader(reader);
        let (mut values, mut rows, mut columns) = (Vec::new(), 0, 0);
        for record in lines.records() {
            let record = record.map_err(|e| Error::new(ErrorKind::Format, "csv", "malformed file").caused_by(e))?;
            let line = record.position().map_or(0, ::csv::Position::line);
            if values.try_reserve(record.len()).is_err() {
                return Err(too_large("csv", &[rows + 1, record.len()], size_of::<T>()));
            }
            for (column, text) in record.iter().enumerate() {
                let value = match text {
                    "" => f64::NAN,
                    _ => text.parse().map_err(|_| {
                        let what = format!("line {line}, column {}: `{text}` is not a number", column + 1);
                        Error::new(ErrorKind::Format, "csv", what)
                    })?,
                };
                values.push(T::of(value));
            }
            (rows, columns) = (rows + 1, record.len());
        }
        Tensor::from_vec([rows, columns], values)
    }

    /// Reads a file, which may be compressed with gzip (feature `gzip`).
    ///
    /// # Errors
    /// If the file cannot be read, and as [`read`](Csv::read).
    pub fn load<T: Real>(&self, path: impl AsRef<Path>) -> Result<Tensor<T>> {
        let bytes = super::file::Source::open("csv", path.as_ref())?.up_to(u64::MAX)?;
        self.read(&*bytes).map_err(|e| e.within(path.as_ref().display()))
    }
}
