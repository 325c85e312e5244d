//! Random tensors: their distributions, and that a seed determines every bit.

use ndnn::{
    manual_seed,
    prelude::*,
    random::{self, Generator, Rng, SeedableRng},
};

const N: usize = 1_000_000;

fn rng(seed: u64) -> Generator {
    Generator::seed_from_u64(seed)
}

/// The largest distance of the samples' distribution function from `cdf`, times √n: it exceeds 1.95 once in a thousand
/// times.
fn kolmogorov_smirnov(samples: &Tensor<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
    let mut x = samples.to_vec();
    x.sort_by(f64::total_cmp);
    let n = x.len() as f64;
    let distance = |(i, &x): (usize, &f64)| (cdf(x) - i as f64 / n).abs().max((cdf(x) - (i + 1) as f64 / n).abs());
    x.iter().enumerate().map(distance).fold(0.0, f64::max) * n.sqrt()
}

/// Φ(x), from erfc as in Numerical Recipes (2nd edition, 6.2): the relative error is below 1.2e-7.
fn normal_cdf(x: f64) -> f64 {
    const C: [f64; 10] = [
        -1.26551223,
        1.00002368,
        0.37409196,
        0.09678418,
        -0.18628806,
        0.27886807,
        -1.13520398,
        1.48851587,
        -0.82215223,
        0.17087277,
    ];
    let z = x.abs() / 2f64.sqrt();
    let t = 1.0 / (1.0 + 0.5 * z);
    let erfc = t * (C.iter().rev().fold(0.0, |sum, c| sum * t + c) - z * z).exp();
    if x > 0.0 { 1.0 - erfc / 2.0 } else { erfc / 2.0 }
}

fn mean(x: &Tensor<f64>, f: impl Fn(f64) -> f64) -> f64 {
    x.view().iter().map(|&x| f(x)).sum::<f64>() / x.numel() as f64
}

/// Within 4.5 standard errors.
#[track_caller]
fn near(value: f64, expected: f64, variance: f64, n: usize) {
    let error = (value - expected) / (variance / n as f64).sqrt();
    assert!(error.abs() < 4.5, "{value}, expected {expected}: {error} standard errors");
}

#[test]
fn uniform_numbers_are_uniform() {
    let x = Tensor::<f64>::rand_with([N], &mut rng(1));
    assert!(kolmogorov_smirnov(&x, |x| x) < 1.95);
    assert!(x.view().iter().all(|x| (0.0..1.0).contains(x)));
    // Each of the 53 bits is set half of the time.
    for scale in (1..=53).map(|bit| 2f64.powi(bit)) {
        near(mean(&x, |x| (x * scale).floor() % 2.0), 0.5, 0.25, N);
    }
    let x = Tensor::<f32>::rand_with([N], &mut rng(2));
    assert!(x.view().iter().all(|x| (0.0..1.0).contains(x) && (x * 16_777_216.0).fract() == 0.0));
    assert!(kolmogorov_smirnov(&x.cast(), |x| x) < 1.95);
    for scale in (1..=24).map(|bit| 2f64.powi(bit)) {
        near(mean(&x.cast(), |x| (x * scale).floor() % 2.0), 0.5, 0.25, N);
    }
}

#[test]
fn neighbours_are_independent() {
    let x = Tensor::<f64>::randn_with([N], &mut rng(3)).to_vec();
    // Lags within a block, between blocks, between chunks.
    for lag in [1, 2, 3, 4, 64, 8192, 16_384] {
        let product: f64 = x.iter().zip(&x[lag..]).map(|(a, b)| a * b).sum();
        near(product / (N - lag) as f64, 0.0, 1.0, N - lag);
    }
    // Draws with neighbouring keys and streams.
    for other in [Generator::new(1, 1), Generator::new(0, 2), Generator::new(1 << 32, 1)].iter_mut() {
        let x = Tensor::<f64>::randn_with([N], &mut Generator::new(0, 1)).to_vec();
        let y = Tensor::<f64>::randn_with([N], other).to_vec();
        near(x.iter().zip(&y).map(|(a, b)| a * b).sum::<f64>() / N as f64, 0.0, 1.0, N);
    }
}

#[test]
fn normal_numbers_are_normal() {
    let x = Tensor::<f64>::randn_with([N], &mut rng(4));
    assert!(kolmogorov_smirnov(&x, normal_cdf) < 1.95);
    for (power, moment, variance) in [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0), (6, 15.0, 10_170.0)]
    {
        near(mean(&x, |x| x.powi(power)), moment, variance, N);
    }
    for edge in [2.5, 3.0, 3.5, 4.0] {
        let p = 2.0 * normal_cdf(-edge);
        near(mean(&x, |x| f64::from(x.abs() > edge)), p, p, N);
    }
    let x = Tensor::<f64>::normal_with([N], -3.0, 0.5, &mut rng(5)).unwrap();
    assert!(kolmogorov_smirnov(&x, |x| normal_cdf((x + 3.0) / 0.5)) < 1.95);
    assert!(kolmogorov_smirnov(&Tensor::<f32>::randn_with([N], &mut rng(6)).cast(), normal_cdf) < 1.95);
}

#[test]
fn ranges_masks_and_integers() {
    let x = Tensor::<f32>::uniform_with([N], -2.0, 3.0, &mut rng(7)).unwrap();
    assert!(x.view().iter().all(|x| (-2.0..3.0).contains(x)));
    assert!(kolmogorov_smirnov(&x.cast(), |x| (x + 2.0) / 5.0) < 1.95);
    // Here rounding would often reach the end of the range.
    let x = Tensor::<f32>::uniform_with([1000], 16_777_215.0, 16_777_216.0, &mut rng(7)).unwrap();
    assert!(x.view().iter().all(|&x| x == 16_777_215.0));

    for p in [0.0, 0.001, 0.3, 1.0] {
        let mask = Tensor::<bool>::bernoulli_with([N], p, &mut rng(8)).unwrap();
        let ones = mean(&mask.cast(), |x| x);
        if p == 0.0 || p == 1.0 {
            assert_eq!(ones, p)
        } else {
            near(ones, p, p * (1.0 - p), N)
        }
        assert_eq!(Tensor::<f32>::bernoulli_with([N], p, &mut rng(8)).unwrap(), mask.cast());
    }

    let dice = Tensor::randint_with(-1, 5, [10, N / 10], &mut rng(9)).unwrap();
    for face in -1..5 {
        near(mean(&dice.cast(), |x| f64::from(x == f64::from(face))), 1.0 / 6.0, 5.0 / 36.0, N);
    }
    assert!(dice.view().iter().all(|x| (-1..5).contains(x)));
}

#[test]
fn permutations_are_as_likely() {
    let mut rng = rng(10);
    let mut counts = [[0usize; 5]; 5];
    for _ in 0..20_000 {
        let order = Tensor::randperm_with(5, &mut rng).to_vec();
        order.iter().enumerate().for_each(|(i, &x)| counts[i][x as usize] += 1);
    }
    for count in counts.iter().flatten() {
        near(*count as f64 / 20_000.0, 0.2, 0.16, 20_000);
    }
    let mut order = Tensor::randperm_with(1000, &mut rng).to_vec();
    assert_ne!(order, (0..1000).collect::<Vec<_>>());
    order.sort_unstable();
    assert_eq!(order, (0..1000).collect::<Vec<_>>());
    assert_eq!(Tensor::randperm_with(0, &mut rng).numel(), 0);
}

/// Everything that draws from the generator of the process, in one test, since tests share it.
#[test]
fn a_seed_fixes_every_bit_on_any_number_of_threads() {
    fn everything() -> Vec<String> {
        let bits = |x: Tensor<f64>| x.view().iter().fold(0u64, |hash, x| hash.rotate_left(7) ^ x.to_bits()).to_string();
        vec![
            bits(Tensor::randn([100, 999])),
            bits(Tensor::rand([123_456])),
            bits(Tensor::<f32>::randn([77_777]).cast()),
            bits(Tensor::<bool>::bernoulli([50_000], 0.5).unwrap().cast()),
            bits(Tensor::randint(0, 1000, [50_000]).unwrap().cast()),
            bits(Tensor::randperm(20_000).cast()),
            bits(Tensor::rand([3])),
            bits(Tensor::rand([3])),
        ]
    }
    let with_threads = |threads| {
        ndnn::set_num_threads(threads);
        manual_seed(42);
        everything()
    };
    let unseeded = everything();
    let one = with_threads(1);
    assert_eq!(one, with_threads(2));
    assert_eq!(one, with_threads(4));
    assert_ne!(one[6], one[7], "two draws");
    assert!(everything().iter().zip(&one).all(|(a, b)| a != b), "the draws go on");
    assert!(unseeded.iter().zip(&one).all(|(a, b)| a != b), "unseeded");
    manual_seed(43);
    assert!(everything().iter().zip(&one).all(|(a, b)| a != b), "another seed");

    // These numbers may change only with a note in the changelog.
    manual_seed(0);
    assert_eq!(Tensor::<f32>::randn([4]).to_string(), "tensor([-1.4259,  1.1245,  1.1740,  0.0750])");
}

#[test]
fn a_callers_generator() {
    // Any `rand::Rng` is accepted, also through a pointer; it determines the draw and advances.
    let mut a: Box<dyn Rng> = Box::new(rng(1));
    let mut b = rng(1);
    let (x, y) = (Tensor::<f32>::rand_with([20_000], &mut *a), Tensor::<f32>::rand_with([20_000], &mut b));
    assert_eq!(x, y);
    assert_ne!(y, Tensor::rand_with([20_000], &mut b));
}

#[test]
fn what_cannot_be_is_refused() {
    // What is refused draws too: not from the generator of the process, which `a_seed_fixes_every_bit_on_any_number_of_threads` seeds.
    random::with(&mut rng(1), || {
        for p in [-0.1, 1.1, f64::NAN] {
            assert!(Tensor::<bool>::bernoulli([2], p).is_err());
        }
        assert_eq!(
            Tensor::randint(3, 3, [2]).unwrap_err().to_string(),
            "randint: there is no integer from 3 up to but without 3"
        );
        assert!(Tensor::<f32>::uniform([2], 1.0, 0.0).is_err());
        assert!(Tensor::<f32>::uniform([2], 0.0, f32::INFINITY).is_err());
        assert!(Tensor::<f64>::normal([2], 0.0, -1.0).is_err());
        assert!(Tensor::<f64>::normal([2], 0.0, f64::NAN).is_err());
        assert_eq!(Tensor::<f64>::uniform([2], 1.0, 1.0).unwrap(), tensor![1.0, 1.0; f64]);
        assert_eq!(Tensor::<f32>::rand([0, 3]).shape(), [0, 3]);
        assert_eq!(Tensor::<f32>::randn([]).ndim(), 0);
    });
}

#[test]
fn a_generator_serves_what_runs_inside() {
    let draws = || (Tensor::<f32>::randn([3]), Linear::new(2, 2).weight.detach(), Tensor::randperm(5));
    let within = |seed| random::with(&mut rng(seed), draws);
    assert_eq!(within(1), within(1));
    assert_ne!(within(1), within(2));
    // One number is taken from the caller's generator, whatever is drawn.
    let [mut nothing, mut drawn, mut once] = [(); 3].map(|()| rng(3));
    random::with(&mut nothing, || ());
    let _ = random::with(&mut drawn, draws);
    once.next_u64();
    assert_eq!([nothing.next_u64(), drawn.next_u64()], [once.next_u64(); 2]);
    // Nested, and with a panic: the outer draws continue as if nothing had been drawn inside.
    random::with(&mut rng(4), || {
        let state = random::state();
        let expected = (Tensor::<f32>::rand([2]), Tensor::<f32>::rand([2]));
        random::set_state(state);
        let first = Tensor::<f32>::rand([2]);
        let inside = std::panic::catch_unwind(|| {
            random::with(&mut rng(5), || -> Tensor { panic!("{}", Tensor::<f32>::rand([2])) })
        });
        assert!(inside.is_err());
        assert_eq!((first, Tensor::rand([2])), expected);
        // A new seed applies inside only; another thread draws from the generator of the process.
        ndnn::manual_seed(6);
        assert_eq!(random::state(), random::RngState { seed: 6, draws: 0 });
        assert_ne!(std::thread::spawn(random::seed).join().unwrap(), 6);
        let order = |epoch| {
            ndnn::data::DataLoader::new(
                ndnn::data::TensorDataset::new(Tensor::<f32>::arange(0.0, 20.0, 1.0).unwrap()).unwrap(),
                20,
            )
            .shuffle(true)
            .epoch(epoch)
            .next()
            .unwrap()
        };
        assert_eq!(order(0), order(0));
        let before = order(0);
        ndnn::manual_seed(7);
        assert_ne!(order(0), before);
    });
}

#[test]
fn multinomial_draws_by_weight() {
    random::with(&mut rng(1), || {
        let weights = tensor![[1.0, 0.0, 3.0], [1e30, 1e30, 0.0]];
        let drawn = weights.multinomial(40_000, true).unwrap();
        assert_eq!(drawn.shape(), [2, 40_000]);
        let share = |row: isize, category: i64| {
            let row = drawn.select(0, row).unwrap().to_vec();
            row.iter().filter(|&&c| c == category).count() as f64 / 40_000.
        };
        for (row, category, expected) in [(0, 0, 0.25), (0, 1, 0.), (0, 2, 0.75), (1, 0, 0.5), (1, 1, 0.5), (1, 2, 0.)]
        {
            assert!((share(row, category) - expected).abs() < 0.01, "{row} {category} {}", share(row, category));
        }
        // Without replacement: the first one by weight, each once; weights that differ by 300 orders of magnitude in order.
        let mut first = [0; 3];
        for _ in 0..8000 {
            let order = tensor![1.0, 2.0, 1.0; f64].multinomial(3, false).unwrap().to_vec();
            first[order[0] as usize] += 1;
            assert_eq!(order.iter().sum::<i64>(), 3);
            assert!(order[0] != order[1]);
        }
        assert!(
            (first[1] as f64 / 8000. - 0.5).abs() < 0.03 && (first[0] as f64 / 8000. - 0.25).abs() < 0.03,
            "{first:?}"
        );
        assert_eq!(tensor![1e-300, 0.0, 1.0, 1e-150; f64].multinomial(3, false).unwrap(), tensor![2, 3, 0]);
        assert_eq!(tensor![0.0, 5.0].multinomial(2, true).unwrap(), tensor![1, 1]);
        assert_eq!(Tensor::<f32>::zeros([0, 3]).multinomial(2, true).unwrap().shape(), [0, 2]);
        let x: Tensor = Tensor::zeros([2, 3]);
        assert_eq!((x.rand_like().shape(), x.randn_like().shape()), (&[2, 3][..], &[2, 3][..]));
        assert_ne!(x.randn_like(), x.randn_like());
    });
    // What is refused may draw too.
    let refused = |weights: Tensor, n: usize, replacement: bool| {
        random::with(&mut rng(2), || weights.multinomial(n, replacement).unwrap_err().to_string())
    };
    for replacement in [true, false] {
        for (bad, shown) in [(-1.0, "-1"), (f32::INFINITY, "inf"), (f32::NAN, "NaN")] {
            let expected = format!("multinomial: a weight is finite and at least 0, got {shown} in row 1");
            assert_eq!(refused(tensor![[1.0, 1.0], [1.0, bad]], 1, replacement), expected);
        }
        assert_eq!(refused(tensor![0.0, 0.0], 1, replacement), "multinomial: row 0 has no weight above 0");
        assert_eq!(refused(Tensor::zeros([2, 0]), 1, replacement), "multinomial: row 0 has no weight above 0");
        assert_eq!(refused(tensor![1.0], 0, replacement), "multinomial: num_samples is at least 1, got 0");
        let expected = "multinomial: expected weights of 1 or 2 axes, got [1, 1, 1]";
        assert_eq!(refused(Tensor::ones([1, 1, 1]), 1, replacement), expected);
        assert!(refused(tensor![1.0], usize::MAX, replacement).starts_with("multinomial: "));
    }
    let expected = "multinomial: 2 samples without replacement need as many weights above 0; row 0 has 1";
    assert_eq!(refused(tensor![1.0, 0.0], 2, false), expected);
}
