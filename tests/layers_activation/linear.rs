//! Linear layers, and products of groups.

use super::*;

#[test]
fn products_of_groups() {
    let numbers = |shape: &[usize]| T::randn_with(shape, &mut Generator::seed_from_u64(shape.len() as u64));
    let call = |x: &T, y: &T, offs: Option<Tensor<i64>>| F::grouped_mm(x, y, offs.as_ref());
    let part = |t: &T, dim, range: [isize; 2]| t.narrow(dim, range[0], (range[1] - range[0]) as usize).unwrap();
    let (groups, ends) = ([[0, 2], [2, 2], [2, 5]], tensor![2, 2, 5]);
    // Rows, columns and inner axes that are cut, with an empty group, and without or with a rest.
    for len in [5, 6] {
        let (x, stack) = (numbers(&[len, 4]), numbers(&[3, 4, 2]));
        let y = call(&x, &stack, Some(ends.clone())).unwrap();
        let (z, right) = (numbers(&[3, 2, 4]), numbers(&[4, len]));
        let columns = call(&z, &right, Some(ends.clone())).unwrap();
        let (left, below) = (numbers(&[2, len]), numbers(&[len, 3]));
        let inner = call(&left, &below, Some(ends.clone())).unwrap();
        assert_eq!((y.shape(), columns.shape(), inner.shape()), (&[len, 2][..], &[2, len][..], &[3, 2, 3][..]));
        for (i, range) in groups.into_iter().enumerate() {
            let of = |t: &T| t.select(0, i as isize).unwrap();
            assert_eq!(part(&y, 0, range), part(&x, 0, range).mm(&of(&stack)).unwrap());
            assert_eq!(part(&columns, 1, range), of(&z).mm(&part(&right, 1, range)).unwrap());
            assert_eq!(of(&inner), part(&left, 1, range).mm(&part(&below, 0, range)).unwrap());
        }
        assert_eq!(part(&y, 0, [5, len as isize]), T::zeros([len - 5, 2]));
        assert_eq!(part(&columns, 1, [5, len as isize]), T::zeros([2, len - 5]));
        for inputs in [[x, stack], [z, right], [left, below]] {
            let f = |t: &[T]| F::grouped_mm(&t[0], &t[1], Some(&ends));
            gradcheck(f, &inputs, Default::default()).unwrap();
            gradgradcheck(f, &inputs, Default::default()).unwrap();
        }
    }
    let (x, y) = (numbers(&[2, 3, 4]), numbers(&[2, 4, 5]));
    assert_eq!(call(&x, &y, None).unwrap(), x.bmm(&y).unwrap());
    assert_eq!(call(&numbers(&[0, 4]), &numbers(&[0, 4, 2]), Some(Tensor::zeros([0]))).unwrap().shape(), [0, 2]);
    assert_eq!(call(&numbers(&[2, 0]), &numbers(&[0, 3]), Some(Tensor::zeros([0]))).unwrap().shape(), [0, 2, 3]);
    for (a, b, offs, text) in [
        (&[3][..], &[3, 2][..], None, "expected two operands of 2 or 3 axes, got [3] and [3, 2]"),
        (&[2, 3], &[4, 2], None, "the inner axes of [2, 3] and [4, 2] differ: 3 and 4"),
        (&[2, 3], &[2, 3, 2], None, "an operand of 2 axes needs offs, got [2, 3] and [2, 3, 2]"),
        (&[2, 3, 3], &[3, 3, 2], None, "[2, 3, 3] has 2 matrices, [3, 3, 2] has 3"),
        (&[2, 3, 3], &[2, 3, 2], Some(tensor![1, 3]), "operands of 3 axes, [2, 3, 3] and [2, 3, 2], take no offs"),
        (&[5, 3], &[2, 3, 2], Some(tensor![1, 2, 3]), "offs are [3], expected a vector of 2 ends"),
        (&[5, 3], &[3, 2], Some(tensor![[1]]), "offs are [1, 1], expected a vector"),
        (
            &[5, 3],
            &[2, 3, 2],
            Some(tensor![3, 2]),
            "offset 1 is 2; it must not be less than the one before it, nor more than 5",
        ),
        (&[5, 3], &[2, 3, 2], Some(tensor![3, 6]), "offset 1 is 6"),
        (&[5, 3], &[2, 3, 2], Some(tensor![-1, 5]), "offset 0 is -1"),
    ] {
        let error = call(&T::ones(a), &T::ones(b), offs).unwrap_err().to_string();
        assert!(error.starts_with("grouped_mm: ") && error.contains(text), "{error}");
    }
}

#[test]
fn linear_and_bilinear() {
    let t = |shape: &[usize]| Tensor::<f64>::uniform_with(shape, -1., 1., &mut Generator::seed_from_u64(9)).unwrap();
    let cases: [(&[usize], &[usize], Option<&[usize]>); 6] = [
        (&[2, 3, 4], &[5, 4], Some(&[5])),
        (&[4], &[5, 4], Some(&[5])),
        (&[3, 4], &[5, 4], Some(&[])),
        (&[3, 4], &[4], None),
        (&[0, 4], &[5, 4], Some(&[5])),
        (&[2, 0], &[5, 0], Some(&[5])),
    ];
    for (x, w, b) in cases {
        let inputs: Vec<T> = [Some(x), Some(w), b].into_iter().flatten().map(t).collect();
        let f = |t: &[T]| F::linear(&t[0], &t[1], t.get(2));
        gradcheck(f, &inputs, Default::default()).unwrap();
        gradgradcheck(f, &inputs, Default::default()).unwrap();
    }
    for lead in [&[][..], &[3], &[2, 2], &[0]] {
        let shape = |n: usize| [lead, &[n]].concat();
        let inputs = [t(&shape(3)), t(&shape(2)), t(&[4, 3, 2]), t(&[4])];
        let f = |t: &[T]| F::bilinear(&t[0], &t[1], &t[2], Some(&t[3]));
        gradcheck(f, &inputs, Default::default()).unwrap();
        gradgradcheck(f, &inputs, Default::default()).unwrap();
    }
    let layer = Bilinear::new(3, 2, 4).dtype::<f64>();
    let (x1, x2) = (t(&[5, 3]), t(&[5, 2]));
    let bias = layer.bias.as_ref().unwrap();
    let y = F::bilinear(&x1, &x2, &layer.weight.tensor(), Some(&bias.tensor())).unwrap();
    assert_eq!(layer.forward(&x1, &x2).unwrap(), y);
}

#[test]
fn what_does_not_fit() {
    let z = |shape: &[usize]| T::zeros(shape);
    let errors = [
        F::linear(&z(&[2, 3]), &z(&[4, 5]), None),
        F::linear(&z(&[2, 3]), &z(&[4, 3]), Some(&z(&[3]))),
        F::linear(&z(&[]), &z(&[4, 1]), None),
        F::linear(&z(&[3]), &z(&[1, 4, 3]), None),
        F::bilinear(&z(&[2, 3]), &z(&[3, 4]), &z(&[5, 3, 4]), None),
        F::bilinear(&z(&[2, 3]), &z(&[2, 4]), &z(&[5, 3, 3]), None),
        F::bilinear(&z(&[2, 3]), &z(&[2, 4]), &z(&[5, 3, 4]), Some(&z(&[1]))),
        F::bilinear(&z(&[]), &z(&[]), &z(&[5, 3, 4]), None),
        F::glu(&z(&[3]), 0),
        F::glu(&z(&[]), 0),
        F::softmax(&z(&[3]), 1),
        F::prelu(&z(&[]), &z(&[2])),
        F::prelu(&z(&[2, 8, 3]), &z(&[2, 4])),
        F::prelu(&z(&[3, 4]), &z(&[3])),
        F::prelu(&z(&[4]), &z(&[4])),
        F::celu(&z(&[3]), 0.),
        F::softshrink(&z(&[3]), -1.),
        F::hardtanh(&z(&[3]), 1., -1.),
        F::rrelu(&z(&[3]), 0.5, 0.2, false),
        Softmax2d.forward(&z(&[3, 4])),
        Flatten.forward(&z(&[3])),
    ];
    for (i, result) in errors.into_iter().enumerate() {
        assert!(result.is_err(), "number {i} gave {:?}", result.unwrap().shape());
    }
}
