//! The header of a safetensors file: a JSON object with one entry per tensor, read here so that a program needs no crates
//! for JSON.

use std::collections::HashSet;

use crate::kernels::memory::push;

/// What is wrong with a file.
type Result<T> = std::result::Result<T, String>;

/// A tensor as a file stores it.
pub(super) struct Stored<'a> {
    pub name: String,
    /// The format's name of the element type, one of [`WIDTHS`].
    pub dtype: String,
    pub shape: Vec<usize>,
    pub data: &'a [u8],
}

/// The element types of the format, and their sizes in bits.
const WIDTHS: [(&str, usize); 22] = [
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// An entry before it is known to be in the file.
struct Entry {
    name: String,
    dtype: String,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

/// The tensors of a file in the order of its header. Together they are all of its bytes, one after the other.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Stored<'_>>> {
    let (length, rest) = bytes.split_first_chunk().ok_or("it has less than 8 bytes")?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok().filter(|&n| n <= rest.len());
    let (header, data) = rest.split_at(length.ok_or("it is shorter than its header")?);
    let header = std::str::from_utf8(header).map_err(|e| format!("its header is not text: {e}"))?;
    let entries = entries(header)?;
    let mut ranges = Vec::new();
    for Entry { name, dtype, shape, start, end } in &entries {
        let bits = WIDTHS.iter().find(|(known, _)| known == dtype);
        let (_, bits) = bits.ok_or_else(|| format!("`{name}` is of the unknown type `{dtype}`"))?;
        let elements = shape.iter().try_fold(1usize, |all, &n| all.checked_mul(n));
        let bits = elements.and_then(|elements| elements.checked_mul(*bits));
        let size = end.checked_sub(*start).and_then(|bytes| bytes.checked_mul(8));
        if bits.is_none() || bits != size {
            return Err(format!("`{name}`, {dtype} {shape:?}, cannot be at bytes {start} to {end}"));
        }
        push(&mut ranges, (*start, *end));
    }
    ranges.sort_unstable();
    let mut at = 0;
    for (start, end) in ranges.into_iter().chain([(data.len(), 0)]) {
        if start != at {
            return Err(format!("after byte {at} of its tensors it goes on at byte {start}"));
        }
        at = end;
    }
    let stored = |Entry { name, dtype, shape, start, end }| Stored { name, dtype, shape, data: &data[start..end] };
    Ok(entries.into_iter().map(stored).collect())
}

fn entries(header: &str) -> Result<Vec<Entry>> {
    let (mut entries, mut names) = (Vec::new(), HashSet::new());
    let mut text = Text { rest: header.as_bytes() };
    text.object(&mut |text, name| {
        if !names.insert(name.clone()) {
            return Err(format!("`{name}` is in its header twice"));
        }
        if name == "__metadata__" {
            return text.object(&mut |text, _| text.string().map(drop));
        }
        let (mut dtype, mut shape, mut offsets) = (None, None, None);
        text.object(&mut |text, key| {
            match key.as_str() {
                "dtype" => dtype = Some(text.string()?),
                "shape" => shape = Some(text.numbers()?),
                "data_offsets" => offsets = Some(text.numbers()?),
                _ => text.value(0)?,
            }
            Ok(())
        })?;
        let (Some(dtype), Some(shape), Some(&[start, end])) = (dtype, shape, offsets.as_deref()) else {
            return Err(format!("`{name}` needs a dtype, a shape and two data_offsets"));
        };
        push(&mut entries, Entry { name, dtype, shape, start, end });
        Ok(())
    })?;
    match text.next() {
        None => Ok(entries),
        Some(_) => Err(text.unexpected("the end of the header")),
    }
}

/// JSON that was not read yet.
struct Text<'a> {
    rest: &'a [u8],
}

impl Text<'_> {
    /// The next byte that is not white space.
    fn next(&mut self) -> Option<u8> {
        self.rest = self.rest.trim_ascii_start();
        self.rest.first().copied()
    }

    fn unexpected(&self, expected: &str) -> String {
        let found = String::from_utf8_lossy(&self.rest[..self.rest.len().min(20)]);
        format!("its header has `{found}` where {expected} is expected")
    }

    fn take(&mut self, byte: u8) -> Result<()> {
        if self.next() != Some(byte) {
            return Err(self.unexpected(&format!("`{}`", byte as char)));
        }
        self.rest = &self.rest[1..];
        Ok(())
    }

    /// What is between two brackets, separated by commas.
    fn list(&mut self, [open, close]: [u8; 2], each: &mut dyn FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.take(open)?;
        if self.next() != Some(close) {
            each(self)?;
            while self.next() == Some(b',') {
                self.take(b',')?;
                each(self)?;
            }
        }
        self.take(close)
    }

    fn object(&mut self, each: &mut dyn FnMut(&mut Self, String) -> Result<()>) -> Result<()> {
        self.list(*b"{}", &mut |text| {
            let key = text.string()?;
            text.take(b':')?;
            each(text, key)
        })
    }

    fn numbers(&mut self) -> Result<Vec<usize>> {
        let mut numbers = Vec::new();
        self.list(*b"[]", &mut |text| {
            text.next();
            let digits = text.rest.iter().take_while(|b| b.is_ascii_digit()).count();
            let (number, rest) = text.rest.split_at(digits);
            let number = std::str::from_utf8(number).ok().and_then(|n| n.parse().ok());
            // As JSON has it: no zeros in front.
            let number = number.filter(|_| digits == 1 || text.rest[0] != b'0');
            push(&mut numbers, number.ok_or_else(|| text.unexpected("a size"))?);
            text.rest = rest;
            Ok(())
        })?;
        Ok(numbers)
    }

    fn string(&mut self) -> Result<String> {
        self.take(b'"')?;
        let mut string = Vec::new();
        loop {
            let (&byte, rest) = self.rest.split_first().ok_or("its header ends in a string")?;
            match byte {
                b'"' => {
                    self.rest = rest;
                    return String::from_utf8(string).map_err(|e| e.to_string());
                }
                b'\\' => {
                    let c = self.escape()?;
                    string.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                0..32 => return Err(self.unexpected("a letter")),
                _ => {
                    string.push(byte);
                    self.rest = rest;
                }
            }
        }
    }

    /// The letter after a backslash.
    fn escape(&mut self) -> Result<char> {
        let wrong = self.unexpected("an escaped letter");
        let &[_, letter, ref rest @ ..] = self.rest else { return Err(wrong) };
        let c = match letter {
            b'"' | b'\\' | b'/' => letter as char,
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                // A letter beyond 16 bits is two such numbers.
                let first = self.unit().ok_or_else(|| wrong.clone())?;
                let pair = if (0xd800..0xdc00).contains(&first) { self.unit() } else { None };
                let mut letters = char::decode_utf16([Some(first), pair].into_iter().flatten());
                return letters.next().and_then(|c| c.ok()).ok_or(wrong);
            }
            _ => return Err(wrong),
        };
        self.rest = rest;
        Ok(c)
    }

    /// The number of `\uXXXX`.
    fn unit(&mut self) -> Option<u16> {
        let (digits, rest) = self.rest.strip_prefix(b"\\u")?.split_at_checked(4)?;
        let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
        self.rest = rest;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    }

    /// Skips any value, of at most 100 values inside one another.
    fn value(&mut self, depth: usize) -> Result<()> {
        if depth > 100 {
            return Err("its header has too many brackets inside brackets".into());
        }
        match self.next() {
            Some(b'{') => self.object(&mut |text, _| text.value(depth + 1)),
            Some(b'[') => self.list(*b"[]", &mut |text| text.value(depth + 1)),
            Some(b'"') => self.string().map(drop),
            _ => {
                let is_word = |b: &&u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
                let (word, rest) = self.rest.split_at(self.rest.iter().take_while(is_word).count());
                let number = std::str::from_utf8(word).is_ok_and(|word| word.parse::<f64>().is_ok());
                let starts = word.first().is_some_and(|&b| b == b'-' || b.is_ascii_digit());
                let known = (number && starts) || [&b"true"[..], b"false", b"null"].contains(&word);
                if !known {
                    return Err(self.unexpected("a value"));
                }
                self.rest = rest;
                Ok(())
            }
        }
    }
}

/// A string as JSON writes it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\0'..' ' => out += &format!("\\u{:04x}", c as u32),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
    }

    fn entry(dtype: &str, shape: &str, offsets: &str) -> String {
        format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    }

    /// Headers, and the bytes after them: what is read, or refused, is what the format's own reader does.
    #[test]
    fn reads_what_the_formats_reader_reads() {
        let x = r#""dtype":"F32","shape":[2],"data_offsets":[0,8]"#;
        let cases = [
            ("{}".into(), 0),
            (" {\n} \t".into(), 0),
            ("{}".into(), 1),
            ("{} {}".into(), 0),
            ("".into(), 0),
            ("[]".into(), 0),
            ("{".into(), 0),
            (r#"{"x"}"#.into(), 0),
            (r#"{"x":{},}"#.into(), 0),
            (entry("F32", "[2]", "[0,8]"), 8),
            (entry("F32", "[2]", "[0,8]"), 7),
            (entry("F32", "[2]", "[0,8]"), 9),
            (entry("F32", "[2]", "[0,9]"), 9),
            (entry("F32", "[2]", "[1,9]"), 9),
            (entry("F32", "[2]", "[8,0]"), 8),
            (entry("F32", "[2]", "[0,8,8]"), 8),
            (entry("F32", "[2]", "[0]"), 8),
            (entry("F32", "[]", "[0,4]"), 4),
            (entry("F32", "[0]", "[0,0]"), 0),
            (entry("F32", " [ 1 , 2 ] ", "[0,8]"), 8),
            (entry("F32", "[-2]", "[0,8]"), 8),
            (entry("F32", "[2.0]", "[0,8]"), 8),
            (entry("F32", "[02]", "[0,8]"), 8),
            (entry("F32", "[2,]", "[0,8]"), 8),
            (entry("F32", "[99999999999999999999]", "[0,8]"), 8),
            (entry("F32", "[9223372036854775807,4]", "[0,8]"), 8),
            (entry("F32", "[9223372036854775807,0]", "[0,0]"), 0),
            (entry("F32", "[8589934592,8589934592,0]", "[0,0]"), 0),
            (entry("F4", "[4]", "[0,2]"), 2),
            (entry("F4", "[3]", "[0,2]"), 2),
            (entry("F33", "[2]", "[0,8]"), 8),
            (entry("C64", "[1]", "[0,8]"), 8),
            (format!(r#"{{"x":{{{x}}}}}"#), 8),
            (format!(r#"{{"x":{{{x},"more":[1,-2.5e3,{{"a":null}},"b",true,false]}}}}"#), 8),
            (format!(r#"{{"x":{{{x},"more":what}}}}"#), 8),
            (format!(r#"{{"x":{{{x},"more":inf}}}}"#), 8),
            (format!(r#"{{"x":{{{x}}},"y":{{{x}}}}}"#), 8),
            (format!(r#"{{"__metadata__":{{"a":"b"}},"x":{{{x}}}}}"#), 8),
            (format!(r#"{{"__metadata__":{{"a":1}},"x":{{{x}}}}}"#), 8),
            (format!(r#"{{"\u00e9\n\"\\\/\ud83d\ude00 é":{{{x}}}}}"#), 8),
            (format!(r#"{{"\ud83d":{{{x}}}}}"#), 8),
            (format!(r#"{{"\ud83d\u0041":{{{x}}}}}"#), 8),
            (format!(r#"{{"\u+123":{{{x}}}}}"#), 8),
            (format!(r#"{{"\x":{{{x}}}}}"#), 8),
            (format!("{{\"a\nb\":{{{x}}}}}"), 8),
            (r#"{"x":{"shape":[2],"data_offsets":[0,8]}}"#.into(), 8),
        ];
        let mut read_of_them = 0;
        for (header, data) in cases {
            let bytes = file(&header, data);
            let (mine, reference) = (read(&bytes), safetensors::SafeTensors::deserialize(&bytes));
            assert_eq!(mine.is_ok(), reference.is_ok(), "{header}: {:?}", mine.err());
            let (Ok(mine), Ok(reference)) = (mine, reference) else { continue };
            read_of_them += 1;
            assert_eq!(mine.len(), reference.len(), "{header}");
            for Stored { name, dtype, shape, data } in mine {
                let view = reference.tensor(&name).unwrap();
                assert_eq!((dtype.as_str(), &*shape, data), (&*view.dtype().to_string(), view.shape(), view.data()));
            }
        }
        assert_eq!(read_of_them, 13);
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |header: &str, data| read(&file(header, data)).map(drop).unwrap_err();
        assert_eq!(error(&entry("F32", "[2]", "[0,4]"), 4), "`x`, F32 [2], cannot be at bytes 0 to 4");
        assert_eq!(error("{}", 3), "after byte 0 of its tensors it goes on at byte 3");
        assert_eq!(error(r#"{"x":1}"#, 0), "its header has `1}` where `{` is expected");
        assert_eq!(error(r#"{"x":{}}"#, 0), "`x` needs a dtype, a shape and two data_offsets");
        let x = entry("F32", "[0]", "[0,0]");
        let twice = format!("{},{}", &x[..x.len() - 1], &x[1..]);
        assert_eq!(error(&twice, 0), "`x` is in its header twice");
        let deep = format!(r#"{{"x":{{"more":{}"#, "[".repeat(100_000));
        assert_eq!(error(&deep, 0), "its header has too many brackets inside brackets");
        assert_eq!(read(&[1, 0]).map(drop).unwrap_err(), "it has less than 8 bytes");
        assert_eq!(read(&[255; 9]).map(drop).unwrap_err(), "it is shorter than its header");
    }

    #[test]
    fn strings_are_read_back() {
        let name = "a \"b\" \\ \n\t\u{1}\u{7f} é 😀 /";
        let header = entry("I8", "[0]", "[0,0]").replace("\"x\"", &quoted(name));
        assert_eq!(read(&file(&header, 0)).unwrap()[0].name, name);
        assert_eq!(quoted("\n"), r#""\u000a""#);
    }
}
