//! Printing a summary as torchinfo does, and as markdown.

use std::fmt;

use super::{Row, Summary};

/// `1,234,567`
#[inline]
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).expect("digits")).collect();
    groups.join(",")
}

#[inline]
fn megabytes(bytes: usize) -> String {
    format!("{:.2}", bytes as f64 / 1e6)
}

/// A count in millions, or in what is larger.
#[inline]
fn in_units(n: u64) -> String {
    let (unit, size) = match n {
        0..1_000_000_000 => ("M", 1e6),
        1_000_000_000..1_000_000_000_000 => ("G", 1e9),
        _ => ("T", 1e12),
    };
    match n as f64 / size {
        whole if whole.fract() == 0. => format!("({unit}): {}", grouped(whole as u64)),
        part => format!("({unit}): {part:.2}"),
    }
}

#[inline]
fn shapes(shapes: &[Vec<usize>]) -> String {
    match shapes {
        [] => "--".into(),
        shapes => shapes.iter().map(|shape| format!("{shape:?}")).collect::<Vec<_>>().join(", "),
    }
}

impl Summary {
    /// The rows to print, each with its columns from the input shape on.
    #[inline]
    fn printed(&self) -> Vec<(&Row, [String; 4])> {
        let shown = |row: &Row| row.depth <= self.depth && !(self.hide_recursive && row.recursive);
        let rows = self.rows.iter().enumerate().filter(|(_, row)| shown(row));
        rows.map(|(i, row)| (row, self.columns(i))).collect()
    }

    #[inline]
    fn columns(&self, i: usize) -> [String; 4] {
        let row = &self.rows[i];
        // The row itself, and all inside it if they are not shown.
        let inside = self.rows[i + 1..].iter().take_while(|other| row.depth == self.depth && other.depth > row.depth);
        let rows: Vec<&Row> = std::iter::once(row).chain(inside).collect();
        let sum = |f: fn(&Row) -> usize| rows.iter().map(|row| f(row)).sum::<usize>() as u64;
        let parameters = match (sum(|row| row.own_parameters), sum(|row| row.parameters), sum(|row| row.trainable)) {
            (0, ..) => "--".into(),
            _ if row.recursive => "(recursive)".into(),
            (_, 0, _) => "(shared)".into(),
            (_, frozen, 0) => format!("({})", grouped(frozen)),
            (_, all, _) => grouped(all),
        };
        let multiply_adds = match rows.iter().map(|row| row.multiply_adds).sum() {
            0 => "--".into(),
            n => grouped(n),
        };
        [shapes(&row.input), shapes(&row.output), parameters, multiply_adds]
    }

    /// What is below the table: counts, then sizes in MB.
    #[inline]
    fn totals(&self) -> ([String; 4], [String; 4]) {
        let [all, trainable] = [self.parameters, self.trainable].map(|n| n as u64);
        let total = self.input_bytes + self.pass_bytes + self.parameter_bytes;
        let counts = [
            format!("Total params: {}", grouped(all)),
            format!("Trainable params: {}", grouped(trainable)),
            format!("Non-trainable params: {}", grouped(all - trainable)),
            format!("Total mult-adds {}", in_units(self.multiply_adds)),
        ];
        let sizes = [
            format!("Input size (MB): {}", megabytes(self.input_bytes)),
            format!("Forward/backward pass size (MB): {}", megabytes(self.pass_bytes)),
            format!("Params size (MB): {}", megabytes(self.parameter_bytes)),
            format!("Estimated Total Size (MB): {}", megabytes(total)),
        ];
        (counts, sizes)
    }

    /// The table in markdown, with paths in place of the tree.
    ///
    /// ```
    /// use ndnn::{nn::summary, prelude::*};
    /// let table = summary(&sequential![Linear::new(4, 2)], &Tensor::zeros([8, 4]))?;
    /// assert_eq!(table.to_markdown().lines().nth(3), Some("| `0` | Linear | [8, 4] | [8, 2] | 10 | 64 |"));
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    #[inline]
    pub fn to_markdown(&self) -> String {
        let mut lines = vec![
            "| Layer | Type | Input Shape | Output Shape | Param # | Mult-Adds |".to_string(),
            "|---|---|---|---|--:|--:|".to_string(),
        ];
        for (row, [input, output, parameters, multiply_adds]) in self.printed() {
            let path = if row.path.is_empty() { String::new() } else { format!("`{}`", row.path) };
            lines.push(format!("| {path} | {} | {input} | {output} | {parameters} | {multiply_adds} |", row.type_name));
        }
        let (counts, sizes) = self.totals();
        lines.push(String::new());
        lines.extend(counts.iter().chain(&sizes).map(|line| format!("- {line}")));
        lines.join("\n") + "\n"
    }
}

/// The row's name behind the branches of the tree.
#[inline]
fn name(row: &Row) -> String {
    let branch = match row.depth {
        0 => return row.type_name.clone(),
        1 => "├─".to_string(),
        depth => "│    ".repeat(depth - 1) + "└─",
    };
    let name = row.path.rsplit('.').next().unwrap_or_default();
    format!("{branch}{} ({name}): {}-{}", row.type_name, row.depth, row.index)
}

impl fmt::Display for Summary {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["Layer (type (name):depth-idx)", "Input Shape", "Output Shape", "Param #", "Mult-Adds"];
        let cells = self.printed().into_iter().map(|(row, [a, b, c, d])| [name(row), a, b, c, d]);
        let table: Vec<[String; 5]> = std::iter::once(head.map(String::from)).chain(cells).collect();
        let width = |column: usize| table.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        let rule = "=".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1));
        writeln!(f, "{rule}")?;
        for (i, line) in table.iter().enumerate() {
            let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
            if i == 0 {
                writeln!(f, "{rule}")?;
            }
        }
        let (counts, sizes) = self.totals();
        write!(f, "{rule}\n{}\n{rule}\n{}\n{rule}", counts.join("\n"), sizes.join("\n"))
    }
}
