use ndarray::{Array2, ArrayView2, ShapeBuilder, s};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus as StdRng};

use super::*;
use crate::{
    Number,
    kernels::isa::{Capability, set_capability},
    sync::lock,
};

/// The instruction set belongs to the process: tests that change it, and tests that compare bits, run one at a time.
static INSTRUCTIONS: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn random<T: Number>(rng: &mut StdRng, rows: usize, columns: usize) -> Array2<T> {
    // Small whole numbers: every product is exact, in each type and in any order.
    Array2::from_shape_simple_fn((rows, columns), || T::of(f64::from(rng.random_range(-8i32..=8))))
}

/// Views of one shape with different memory layouts, some neither row-major nor column-major.
fn laid_out<T: Number>(x: &Array2<T>, way: usize, space: &mut Array2<T>) {
    let (m, n) = x.dim();
    *space = match way % 4 {
        0 => Array2::from_elem((m, n), T::ZERO),
        1 => Array2::from_elem((m, n).f(), T::ZERO),
        2 => Array2::from_elem((m + 3, n + 5), T::ZERO),
        _ => Array2::from_elem((2 * m, 3 * n).f(), T::ZERO),
    };
    view_of(space, way, (m, n)).assign(x);
}

fn view_of<T>(space: &mut Array2<T>, way: usize, (m, n): (usize, usize)) -> ArrayViewMut2<'_, T> {
    match way % 4 {
        0 | 1 => space.view_mut(),
        2 => space.slice_mut(s![2..2 + m, 3..3 + n]),
        _ => space.slice_mut(s![..;2, ..;-3]).slice_move(s![..m, ..n]),
    }
}

fn naive<T: Number>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>) -> Array2<f64> {
    Array2::from_shape_fn((a.nrows(), b.ncols()), |(i, j)| {
        a.row(i).iter().zip(b.column(j)).map(|(&x, &y)| x.as_f64() * y.as_f64()).sum()
    })
}

fn agrees<T: Number>() {
    let mut rng = StdRng::seed_from_u64(7);
    let shapes = [[0, 3, 2], [3, 0, 2], [3, 2, 0], [1, 1, 1], [1, 37, 40], [40, 37, 1], [3, 70, 21], [21, 70, 4]];
    let large = [
        [64, 129, 33],
        [17, 20, 130],
        [15, 900, 35],
        [30, 1030, 49],
        [50, 3, 7],
        [29, 16, 64],
        [2, 5, 200],
        [20, 1024, 112],
        [31, 70, 96],
    ];
    for (case, [m, k, n]) in shapes.into_iter().chain(large).enumerate() {
        for way in 0..8 {
            let (x, y, z) = (random::<T>(&mut rng, m, k), random::<T>(&mut rng, k, n), random::<T>(&mut rng, m, n));
            let [mut a, mut b, mut c] = [x.clone(), y.clone(), z.clone()];
            laid_out(&x, way + case, &mut a);
            laid_out(&y, (way / 2) ^ case, &mut b);
            laid_out(&z, way / 2 + case, &mut c);
            let add = way % 2 == 1;
            let (a, b) = (view_of(&mut a, way + case, (m, k)), view_of(&mut b, (way / 2) ^ case, (k, n)));
            product(a.view(), b.view(), &mut view_of(&mut c, way / 2 + case, (m, n)), add);
            let mut want = naive(x.view(), y.view());
            if add {
                want += &z.mapv(|v| v.as_f64());
            }
            let got = view_of(&mut c, way / 2 + case, (m, n)).mapv(|v| v.as_f64());
            assert_eq!(got, want, "{m}x{k}x{n}, way {way}, {:?}", T::DTYPE);
            let mut got = z.clone();
            // SAFETY: both are in row-major order.
            #[allow(unsafe_code)]
            unsafe {
                Packed::new(b.view(), m).multiply(m, (x.as_ptr(), k), (got.as_mut_ptr(), n), add);
            }
            assert_eq!(got.mapv(|v| v.as_f64()), want, "packed: {m}x{k}x{n}, way {way}, {:?}", T::DTYPE);
            assert_eq!(matmul(a.view(), b.view()).mapv(|v| v.as_f64()), naive(x.view(), y.view()));
            let bias: Vec<T> = random(&mut rng, 1, n).into_iter().collect();
            let want = naive(x.view(), y.view()) + Array2::from_shape_fn((1, n), |(_, j)| bias[j].as_f64());
            let got = linear(a.view(), b.t(), Some(&bias)).mapv(|v| v.as_f64());
            assert_eq!(got, want, "with a bias: {m}x{k}x{n}, way {way}, {:?}", T::DTYPE);
        }
    }
}

/// All capabilities, in one test, since the setting belongs to the process. (Other tests pass with each of them.)
#[test]
fn products_agree_with_plain_loops() {
    let _alone = lock(&INSTRUCTIONS);
    for capability in [Capability::Default, Capability::Avx2, Capability::Avx512] {
        set_capability(capability);
        agrees::<f32>();
        agrees::<f64>();
    }
    agrees::<i64>();
}

/// If the rows of both operands are contiguous the loops are dot products, otherwise tiles.
#[test]
fn long_sums_are_accurate_with_each_set_of_instructions() {
    let _alone = lock(&INSTRUCTIONS);
    let k = 1_000_000;
    let tenths = Array2::from_elem((4, k), 0.1f32);
    let (ones, columns) = (Array2::from_elem((2, k), 1f32), Array2::from_elem((k, 2), 1f32));
    let want = f64::from(0.1f32) * k as f64;
    for capability in [Capability::Default, Capability::Avx2, Capability::Avx512] {
        set_capability(capability);
        for rows in [1, 2, 4] {
            for (b, most) in [(ones.t(), 1e-6), (columns.view(), 5e-6)] {
                for sum in matmul(tenths.slice(s![..rows, ..]), b) {
                    let off = (f64::from(sum) / want - 1.).abs();
                    assert!(off < most, "{capability:?}, {rows} rows: off by {off:e}, most {most:e}");
                }
            }
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_the_threads() {
    let _alone = lock(&INSTRUCTIONS);
    let mut rng = StdRng::seed_from_u64(8);
    for [m, k, n] in [[130, 100, 120], [1, 1024, 300], [12, 2000, 60], [600, 70, 30], [100, 1024, 300], [200, 512, 512]]
    {
        let mut random = |rows, columns| Array2::from_shape_simple_fn((rows, columns), || rng.random_range(-1f32..1.));
        let (a, b) = (random(m, k), random(n, k));
        let results: Vec<_> = [1, 2, 4]
            .map(|threads| {
                threads::set_num_threads(threads);
                (matmul(a.view(), b.t()), matmul(b.view(), a.t()))
            })
            .into();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{m}x{k}x{n}");
    }
}

#[test]
fn the_bits_do_not_depend_on_the_place_in_memory() {
    let _alone = lock(&INSTRUCTIONS);
    let mut rng = StdRng::seed_from_u64(10);
    let (rows, k) = (20, 64);
    let numbers: Vec<f32> = (0..rows * k).map(|_| rng.random_range(-1f32..1.)).collect();
    let x = Array2::from_shape_simple_fn((2, k), || rng.random_range(-1f32..1.));
    let results: Vec<_> = (0..20)
        .map(|place| {
            let space: Vec<f32> = vec![0.; place].into_iter().chain(numbers.iter().copied()).collect();
            let w = ArrayView2::from_shape((rows, k), &space[place..]).unwrap();
            (matmul(x.view(), w.t()), matmul(w, x.t()))
        })
        .collect();
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn stacks_broadcast() {
    let mut rng = StdRng::seed_from_u64(9);
    let a = Array2::from_shape_simple_fn((6, 5), || rng.random_range(-1f64..1.));
    let stack = a.to_shape((3, 2, 5)).unwrap().to_owned().into_dyn();
    let b = Array2::from_shape_simple_fn((5, 4), || rng.random_range(-1f64..1.)).into_dyn();
    let got = batch_matmul(stack.view(), b.view(), &[3]);
    let want = matmul(a.view(), b.view().into_dimensionality().unwrap());
    assert!(got.iter().zip(&want).all(|(x, y)| (x - y).abs() < 1e-15));
    assert_eq!(batch_matmul(stack.view(), b.view(), &[2, 3]).shape(), [2, 3, 2, 4]);
}

/// Overflow is not checked in a release build: nothing must be written there either.
#[test]
fn results_that_cannot_be_counted_are_refused() {
    for [m, n] in [[1 << 33, 1 << 33], [1 << 20, (1 << 44) + 1], [1 << 62, 4]] {
        let (a, b) = (Array2::<f32>::zeros((m, 0)), Array2::<f32>::zeros((0, n)));
        let stacks = [a.view().insert_axis(Axis(0)).into_dyn(), b.view().insert_axis(Axis(0)).into_dyn()];
        let products: [&dyn Fn(); 3] =
            [&|| drop(matmul(a.view(), b.view())), &|| drop(linear(a.view(), b.t(), None)), &|| {
                drop(batch_matmul(stacks[0].view(), stacks[1].view(), &[1]))
            }];
        for product in products {
            let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(product)).expect_err("too large");
            let text = refused.downcast_ref::<String>().expect("text");
            assert!(text.contains("does not fit into memory"), "{text}");
        }
    }
    let (a, b) = (Array2::<f64>::zeros((1 << 40, 0)), Array2::<f64>::zeros((0, 0)));
    assert_eq!(matmul(a.view(), b.view()).dim(), (1 << 40, 0));
    let (a, b) = (Array2::<f64>::zeros((3, 0)), Array2::<f64>::zeros((2, 0)));
    assert_eq!(linear(a.view(), b.view(), Some(&[1., 2.])), ndarray::arr2(&[[1., 2.], [1., 2.], [1., 2.]]));
}
