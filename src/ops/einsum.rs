//! Sums of products over named axes.

use std::collections::BTreeMap;

use crate::{
    Error, Result,
    tensor::{Ints, Number, Tensor, axis},
};

/// An axis of an equation: a letter, or one of the axes that `...` stands for, counted from the last one. In their order come
/// the axes of `...` from the first on, then the letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Ellipsis(std::cmp::Reverse<usize>),
    Letter(char),
}

#[inline]
fn invalid(equation: &str, what: impl std::fmt::Display) -> Error {
    Error::value("einsum", format!("{what}, in \"{equation}\""))
}

/// The letters of one term, and how many of them precede its `...`.
struct Term {
    letters: Vec<char>,
    ellipsis: Option<usize>,
}

impl Term {
    #[inline]
    fn parse(text: &str, equation: &str) -> Result<Term> {
        let mut term = Term { letters: Vec::new(), ellipsis: None };
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("...") {
                if term.ellipsis.replace(term.letters.len()).is_some() {
                    return Err(invalid(equation, "one term has `...` twice"));
                }
                rest = after;
                continue;
            }
            if !c.is_ascii_alphabetic() {
                return Err(invalid(equation, format!("expected letters and `...`, got `{c}`")));
            }
            term.letters.push(c);
            rest = &rest[1..];
        }
        Ok(term)
    }

    /// The labels of an array's axes, of which `...` stands for `hidden`.
    #[inline]
    fn labels(&self, hidden: usize) -> Vec<Label> {
        let mut labels: Vec<Label> = self.letters.iter().map(|&c| Label::Letter(c)).collect();
        if let Some(at) = self.ellipsis {
            labels.splice(at..at, (0..hidden).rev().map(|i| Label::Ellipsis(std::cmp::Reverse(i))));
        }
        labels
    }
}

impl<T: Number> Tensor<T> {
    /// The sum of products that `equation` describes (Einstein's notation): a letter names an axis, a comma separates
    /// the operands, and letters that do not occur after `->` are summed over. `...` stands for any number of axes,
    /// which broadcast; a letter that occurs twice in one operand is its diagonal. Without `->` the result has the axes
    /// of `...`, then the letters that occur once, in alphabetical order.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let (a, b) = (tensor![[1., 2.], [3., 4.]], tensor![[5., 6.], [7., 8.]]);
    /// assert_eq!(Tensor::einsum("ij,jk->ik", &[&a, &b])?, a.matmul(&b)?);
    /// assert_eq!(Tensor::einsum("ii", &[&a])?.item()?, 5.);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the equation cannot be parsed or does not match the operands, or sizes with one letter do not broadcast.
    pub fn einsum(equation: &str, operands: &[&Tensor<T>]) -> Result<Tensor<T>> {
        let text: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
        let (inputs, output) = match text.split_once("->") {
            Some((inputs, output)) => (inputs, Some(output)),
            None => (text.as_str(), None),
        };
        let terms = inputs.split(',').map(|t| Term::parse(t, equation)).collect::<Result<Vec<_>>>()?;
        if terms.len() != operands.len() {
            let message = format!("there are {} terms for {} operands", terms.len(), operands.len());
            return Err(invalid(equation, message));
        }
        let labels = operand_labels(equation, &terms, operands)?;
        let output = output_labels(equation, output, &labels)?;
        // First the axes of the result, then those that are summed over.
        let mut order = output.clone();
        order.extend(sizes(equation, &labels, operands)?.into_keys().filter(|l| !output.contains(l)));
        let mut arranged = operands.iter().zip(&labels).map(|(x, l)| arrange(x, l, &order));
        let mut product = arranged.next().expect("one term at least")?;
        for (i, next) in arranged.enumerate() {
            let next = next?;
            // Axes that no later operand has are summed over now.
            let done = |l: &Label| !labels[i + 2..].iter().flatten().any(|other| other == l);
            let sum: Vec<bool> = order.iter().enumerate().map(|(d, l)| d >= output.len() && done(l)).collect();
            product = sum_product(&product, &next, &sum)?;
        }
        let rest: Vec<isize> = (output.len()..order.len()).map(|d| d as isize).collect();
        if rest.is_empty() { Ok(product) } else { product.sum_dim(rest, false) }
    }

    /// The sum of products over the last `n` axes of `self` and the first `n` of `other`.
    ///
    /// # Errors
    /// If there are not that many axes, or their sizes differ.
    pub fn tensordot(&self, other: &Tensor<T>, n: usize) -> Result<Tensor<T>> {
        if n > self.ndim() || n > other.ndim() {
            let message = format!("{:?} and {:?} have no {n} axes each to sum over", self.shape(), other.shape());
            return Err(Error::shape("tensordot", message));
        }
        let first = (self.ndim() - n) as isize;
        let (left, right): (Vec<isize>, Vec<isize>) = (0..n as isize).map(|i| (first + i, i)).unzip();
        self.tensordot_dims(other, left, right)
    }

    /// The sum of products over the axes `left` of `self` and `right` of `other`, taken in pairs. The result has the
    /// other axes of `self`, then those of `other`.
    ///
    /// # Errors
    /// If there are no such axes, one is named twice, or the sizes of a pair differ (and neither is 1).
    pub fn tensordot_dims(
        &self,
        other: &Tensor<T>,
        left: impl Into<Ints>,
        right: impl Into<Ints>,
    ) -> Result<Tensor<T>> {
        let op = "tensordot";
        let (left, right) = (left.into(), right.into());
        let resolve = |dims: &Ints, x: &Tensor<T>| -> Result<Vec<usize>> {
            crate::tensor::axes(op, dims, x.ndim())?;
            dims.0.iter().map(|&d| axis(op, d, x.ndim())).collect()
        };
        let (left, right) = (resolve(&left, self)?, resolve(&right, other)?);
        if left.len() != right.len() || left.len() > self.ndim() || right.len() > other.ndim() {
            let message =
                format!("axes {left:?} of {:?}, {right:?} of {:?}: expected pairs", self.shape(), other.shape());
            return Err(Error::shape(op, message));
        }
        let (mut a, mut b) = (self.clone(), other.clone());
        for (&i, &j) in left.iter().zip(&right) {
            match (a.shape()[i], b.shape()[j]) {
                (m, n) if m == n => {}
                (_, 1) => a = a.sum_dim(i as isize, true)?,
                (1, _) => b = b.sum_dim(j as isize, true)?,
                (m, n) => {
                    let message = format!("axis {i} of {:?} is {m}, axis {j} of {:?} is {n}", a.shape(), b.shape());
                    return Err(Error::shape(op, format!("{message}; expected one size")));
                }
            }
        }
        let free =
            |x: &Tensor<T>, gone: &[usize]| -> Vec<usize> { (0..x.ndim()).filter(|d| !gone.contains(d)).collect() };
        let (free_a, free_b) = (free(&a, &left), free(&b, &right));
        let size = |x: &Tensor<T>, dims: &[usize]| -> Vec<usize> { dims.iter().map(|&d| x.shape()[d]).collect() };
        let shape = [size(&a, &free_a), size(&b, &free_b)].concat();
        let k: usize = size(&a, &left).iter().product();
        let (m, n) = (size(&a, &free_a).iter().product(), size(&b, &free_b).iter().product());
        let a = a.permute(signed([free_a, left].concat()))?.reshape([m, k].as_slice())?;
        let b = b.permute(signed([right, free_b].concat()))?.reshape([k, n].as_slice())?;
        a.mm(&b)?.reshape(shape.as_slice())
    }
}

#[inline]
fn signed(dims: Vec<usize>) -> Vec<isize> {
    dims.into_iter().map(|d| d as isize).collect()
}

/// The labels of each operand's axes.
fn operand_labels<T: Number>(equation: &str, terms: &[Term], operands: &[&Tensor<T>]) -> Result<Vec<Vec<Label>>> {
    let labels = |(term, x): (&Term, &&Tensor<T>)| {
        let (named, have) = (term.letters.len(), x.ndim());
        if named > have || (named < have && term.ellipsis.is_none()) {
            let text: String = term.letters.iter().collect();
            return Err(invalid(equation, format!("`{text}` does not name the {have} axes of {:?}", x.shape())));
        }
        Ok(term.labels(have - named))
    };
    terms.iter().zip(operands).map(labels).collect()
}

/// The labels of the result's axes.
#[inline]
fn output_labels(equation: &str, output: Option<&str>, labels: &[Vec<Label>]) -> Result<Vec<Label>> {
    let mut times: BTreeMap<Label, usize> = BTreeMap::new();
    labels.iter().flatten().for_each(|&l| *times.entry(l).or_default() += 1);
    let Some(text) = output else {
        let once = |(l, n): (Label, usize)| (n == 1 || matches!(l, Label::Ellipsis(_))).then_some(l);
        return Ok(times.into_iter().filter_map(once).collect());
    };
    let hidden = times.keys().filter(|l| matches!(l, Label::Ellipsis(_))).count();
    let output = Term::parse(text, equation)?.labels(hidden);
    for (i, label) in output.iter().enumerate() {
        if let Label::Letter(c) = label {
            if !times.contains_key(label) {
                return Err(invalid(equation, format!("the result's `{c}` is in no operand")));
            }
            if output[..i].contains(label) {
                return Err(invalid(equation, format!("the result has `{c}` twice")));
            }
        }
    }
    Ok(output)
}

/// The size of each label, in the order of labels; an error unless all sizes with one label are equal, or 1 in another
/// operand.
fn sizes<T: Number>(equation: &str, labels: &[Vec<Label>], operands: &[&Tensor<T>]) -> Result<BTreeMap<Label, usize>> {
    let mut sizes: BTreeMap<Label, usize> = BTreeMap::new();
    for (x, labels) in operands.iter().zip(labels) {
        for (i, (&n, label)) in x.shape().iter().zip(labels).enumerate() {
            let known = sizes.entry(*label).or_insert(n);
            let twin = labels[..i].iter().position(|l| l == label).map(|j| x.shape()[j]);
            if (*known != n && *known != 1 && n != 1) || twin.is_some_and(|t| t != n) {
                let message =
                    format!("{label:?} has size {n} in {:?} and {} before", x.shape(), twin.unwrap_or(*known));
                return Err(Error::shape("einsum", format!("{message}, in \"{equation}\"")));
            }
            if *known == 1 {
                *known = n;
            }
        }
    }
    Ok(sizes)
}

/// An operand with its axes in the given order; axes that it does not have get length 1.
fn arrange<T: Number>(x: &Tensor<T>, labels: &[Label], order: &[Label]) -> Result<Tensor<T>> {
    let (mut x, mut labels) = (x.clone(), labels.to_vec());
    while let Some((i, j)) = repeated(&labels) {
        x = x.diagonal(0, i as isize, j as isize)?;
        let label = labels.remove(j);
        labels.remove(i);
        labels.push(label);
    }
    let at: Vec<Option<usize>> = order.iter().map(|l| labels.iter().position(|m| m == l)).collect();
    let shape: Vec<usize> = at.iter().map(|i| i.map_or(1, |i| x.shape()[i])).collect();
    x.permute(signed(at.into_iter().flatten().collect()))?.reshape(shape.as_slice())
}

#[inline]
fn repeated(labels: &[Label]) -> Option<(usize, usize)> {
    (0..labels.len()).find_map(|j| labels[..j].iter().position(|l| *l == labels[j]).map(|i| (i, j)))
}

/// `a · b`, which have the same number of axes, summed over the axes in `sum`, which stay with length 1.
fn sum_product<T: Number>(a: &Tensor<T>, b: &Tensor<T>, sum: &[bool]) -> Result<Tensor<T>> {
    let (mut a, mut b) = (a.clone(), b.clone());
    // Batch axes, axes only in a, axes only in b, and axes summed over in both.
    let (mut batch, mut left, mut right, mut inner) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (d, &sum) in sum.iter().enumerate() {
        match (a.shape()[d], b.shape()[d]) {
            (m, n) if m == n && sum => inner.push(d),
            (_, 1) if sum => a = a.sum_dim(d as isize, true)?,
            (1, _) if sum => b = b.sum_dim(d as isize, true)?,
            (m, n) if m == n => batch.push(d),
            (_, 1) => left.push(d),
            _ => right.push(d),
        }
    }
    let shape: Vec<usize> = a.shape().iter().zip(b.shape()).map(|(&m, &n)| if m == 1 { n } else { m }).collect();
    if inner.is_empty() {
        return a.try_mul(&b);
    }
    // Summed axes that one or both lack stay with length 1 among the batch axes.
    let seen = [&batch[..], &left, &right, &inner].concat();
    batch.extend((0..sum.len()).filter(|d| !seen.contains(d)));
    let size = |dims: &[usize]| dims.iter().map(|&d| shape[d]).product::<usize>();
    let (count, m, n, k) = (size(&batch), size(&left), size(&right), size(&inner));
    let stack = |x: &Tensor<T>, order: [&Vec<usize>; 4], shape: [usize; 3]| {
        x.permute(signed(order.map(Clone::clone).concat()))?.reshape(shape.as_slice())
    };
    let x = stack(&a, [&batch, &left, &inner, &right], [count, m, k])?;
    let y = stack(&b, [&batch, &inner, &right, &left], [count, k, n])?;
    let product = x.bmm(&y)?;
    let order = [batch, left, right, inner.clone()].concat();
    let lengths: Vec<usize> = order.iter().map(|d| if inner.contains(d) { 1 } else { shape[*d] }).collect();
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(i, &d)| back[d] = i);
    product.reshape(lengths.as_slice())?.permute(signed(back))
}
