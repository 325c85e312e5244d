//! Special functions in f64: the inverse of erf, the derivatives of the gamma function's logarithm, and the inverse
//! hyperbolic functions, since those of std overflow for the largest numbers.

use std::f64::consts::{FRAC_2_SQRT_PI, PI};

pub use libm::{acosh, asinh, erf, erfc, lgamma};

/// The inverse of [`erf`]: infinite at ±1, NaN beyond.
pub fn erfinv(y: f64) -> f64 {
    if y.abs() >= 1. || y.is_nan() {
        return if y.abs() == 1. { y * f64::INFINITY } else { f64::NAN };
    }
    let tail = 1. - y.abs();
    // Winitzki's closed form is accurate to 2e-3; each step of Halley's method triples the number of digits.
    let log = (tail * (1. + y.abs())).ln();
    let a = 2. / (PI * 0.147) + log / 2.;
    let mut x = ((a * a - log / 0.147).sqrt() - a).max(0.).sqrt();
    for _ in 0..3 {
        // In the tail erf loses digits that erfc keeps.
        let error = if tail < 0.5 { tail - erfc(x) } else { erf(x) - y.abs() };
        let step = error / (FRAC_2_SQRT_PI * (-x * x).exp());
        x -= step / (1. + x * step);
    }
    x.copysign(y)
}

/// The derivative of [`lgamma`]: ψ(x) = Γ'(x) / Γ(x).
pub fn digamma(x: f64) -> f64 {
    if x == 0. { f64::NEG_INFINITY.copysign(-x) } else { polygamma(0, x) }
}

/// B₂, B₄, … B₂₄: the Bernoulli numbers of even index.
const BERNOULLI: [f64; 12] = [
    1. / 6.,
    -1. / 30.,
    1. / 42.,
    -1. / 30.,
    5. / 66.,
    -691. / 2730.,
    7. / 6.,
    -3617. / 510.,
    43867. / 798.,
    -174611. / 330.,
    854513. / 138.,
    -236364091. / 2730.,
];

/// The n-th derivative of [`digamma`]; infinite at the poles 0, -1, -2, … (NaN for n = 0, as the sign changes there).
pub fn polygamma(n: u32, x: f64) -> f64 {
    // From 171 on the factorial is infinite: then only the parity of n matters.
    let n = n.min(1000 + n % 2);
    if x <= 0. {
        return reflected(n, x);
    }
    // ψₙ(x) = ψₙ(x+1) - (-1)ⁿ n! / xⁿ⁺¹ moves x to where the asymptotic series holds.
    let sign = if n.is_multiple_of(2) { -1. } else { 1. };
    let factorial = (1..=n).map(f64::from).product::<f64>();
    let (mut x, mut sum) = (x, 0.);
    while x < 16. + f64::from(n) {
        sum += x.powi(-(n as i32) - 1);
        x += 1.;
    }
    sum *= sign * factorial;
    if n == 0 {
        let square = 1. / (x * x);
        let series = BERNOULLI.iter().enumerate().rev().fold(0., |s, (k, b)| (s + b / (2. * k as f64 + 2.)) * square);
        return sum + x.ln() - 0.5 / x - series;
    }
    // (n-1)!/xⁿ (1 + n/2x + Σ B₂ₖ n(n+1)…(n+2k-1) / ((2k)! x²ᵏ))
    let order = f64::from(n);
    let (mut series, mut term) = (1. + order / (2. * x), 1.);
    for (k, b) in BERNOULLI.iter().enumerate() {
        let i = 2. * k as f64;
        term *= (order + i) / (i + 1.) * (order + i + 1.) / (i + 2.) / (x * x);
        series += b * term;
    }
    // Next to an infinite factorial, or for an infinite x, a power of 0 would give NaN.
    let power = x.powi(-(n as i32));
    sum + sign * if power == 0. { 0. } else { factorial / order * power * series }
}

/// ψₙ(x) for x ≤ 0, from (-1)ⁿψₙ(1-x) - ψₙ(x) = π (d/dx)ⁿ cot πx.
fn reflected(n: u32, x: f64) -> f64 {
    let odd = !n.is_multiple_of(2);
    if !x.is_finite() {
        return f64::NAN;
    }
    let fraction = x - x.round();
    if fraction == 0. {
        return match n {
            0 => f64::NAN,
            _ if odd => f64::INFINITY,
            _ => f64::NEG_INFINITY,
        };
    }
    // The derivatives of c = cot πx are polynomials in c: c' = -π(1+c²).
    let cot = 1. / (PI * fraction).tan();
    let mut poly = vec![0., 1.];
    for _ in 0..n {
        let mut next = vec![0.; poly.len() + 1];
        for (power, &a) in poly.iter().enumerate().skip(1) {
            let slope = -PI * power as f64 * a;
            next[power - 1] += slope;
            next[power + 1] += slope;
        }
        poly = next;
    }
    let derivative = poly.iter().rev().fold(0., |sum, &a| sum * cot + a);
    let mirrored = polygamma(n, 1. - x);
    (if odd { -mirrored } else { mirrored }) - PI * derivative
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(got: f64, want: f64, tolerance: f64) {
        assert!((got - want).abs() <= tolerance * want.abs(), "{got:e} is not {want:e}");
    }

    /// mpmath's values at 40 digits.
    #[rustfmt::skip]
    #[test]
    fn golden() {
        type Row = (fn(f64) -> f64, &'static [(f64, f64)]);
        let golden: [Row; 8] = [
            (lgamma, &[(0.1, 2.252712651734206), (0.5, 0.5723649429247001), (1.0, 0.0), (1.5, -0.12078223763524522), (2.5, 0.2846828704729192), (7.25, 7.0521854507385395), (20.0, 39.339884187199495), (150.0, 600.0094705553274), (1e-5, 11.512919692895826), (-0.5, 1.2655121234846454), (-1.25, 1.3664317612369763), (-3.7, -1.3797399049658245), (-20.125, -40.608285145280576)]),
            (digamma, &[(0.1, -10.423754940411076), (0.5, -1.9635100260214235), (1.0, -0.5772156649015329), (1.5, 0.03648997397857652), (2.5, 0.7031566406452432), (7.25, 1.910453526883736), (20.0, 2.970523992242149), (150.0, 5.007298257075679), (1e-5, -100000.57719921567), (-0.5, 0.03648997397857652), (-1.25, 3.714139120213528), (-3.7, -0.8450768588704194), (-20.125, 10.611077432912593)]),
            (|x| polygamma(1, x), &[(0.1, 101.43329915079275), (0.5, 4.934802200544679), (1.0, 1.6449340668482264), (1.5, 0.9348022005446793), (2.5, 0.49035775610023485), (7.25, 0.14787923315893217), (20.0, 0.05127082293520312), (150.0, 0.006688938271165994), (1e-5, 10000000001.644909), (-0.5, 8.934802200544679), (-1.25, 19.181879647671607), (-3.7, 14.84242186412428), (-20.125, 67.34539904473097)]),
            (|x| polygamma(2, x), &[(0.1, -2001.8614573783436), (0.5, -16.82879664423432), (1.0, -2.4041138063191885), (1.5, -0.82879664423432), (2.5, -0.2362040516417274), (7.25, -0.02182895229519774), (20.0, -0.0026281224023146548), (150.0, -4.4741728380430464e-5), (1e-5, -2000000000000002.0), (-0.5, -0.82879664423432), (-1.25, 123.72136678366236), (-3.7, -68.89345468867354), (-20.125, 1022.2920414835888)]),
            (|x| polygamma(3, x), &[(0.1, 60004.51287679026), (0.5, 97.40909103400244), (1.0, 6.493939402266829), (1.5, 1.4090910340024372), (2.5, 0.22390584881725206), (7.25, 0.0064330375979401565), (20.0, 0.0002693742213396389), (150.0, 5.985448553818363e-7), (1e-5, 5.999999999999999e20), (-0.5, 193.40909103400244), (-1.25, 1558.2209125348506), (-3.7, 768.994649440866), (-20.125, 24591.002096872733)]),
            (erfinv, &[(1e-9, 8.86226925452758e-10), (0.1, 0.08885599049425769), (0.5, 0.4769362762044699), (0.9, 1.1630871536766743), (-0.3, -0.2724627147267543), (0.99, 1.8213863677184494), (0.9999999, 3.7665625816384707), (-0.999999999999, -5.042031898572696)]),
            (erf, &[(1e-9, 1.1283791670955127e-9), (0.3, 0.3286267594591274), (1.0, 0.8427007929497149), (2.5, 0.999593047982555), (5.0, 0.9999999999984626), (-0.7, -0.6778011938374184)]),
            (erfc, &[(1e-9, 0.9999999988716208), (0.3, 0.6713732405408726), (1.0, 0.15729920705028513), (2.5, 0.0004069520174449589), (5.0, 1.537459794428035e-12), (-0.7, 1.6778011938374184)]),
        ];
        for (function, values) in golden {
            for &(x, want) in values {
                close(function(x), want, 1e-13);
            }
        }
    }

    #[test]
    fn limits() {
        assert_eq!((digamma(0.), digamma(-0.)), (f64::NEG_INFINITY, f64::INFINITY));
        assert!(digamma(-3.).is_nan() && digamma(f64::NAN).is_nan() && digamma(f64::NEG_INFINITY).is_nan());
        assert_eq!(digamma(f64::INFINITY), f64::INFINITY);
        assert_eq!((polygamma(1, f64::INFINITY), polygamma(2, f64::INFINITY)), (0., 0.));
        assert_eq!((polygamma(1, 0.), polygamma(2, -1.)), (f64::INFINITY, f64::NEG_INFINITY));
        assert_eq!((polygamma(171, 10.), polygamma(200, 0.5)), (f64::INFINITY, f64::NEG_INFINITY));
        assert_eq!((erfinv(1.), erfinv(-1.), erfinv(0.)), (f64::INFINITY, f64::NEG_INFINITY, 0.));
        assert!(erfinv(1.5).is_nan() && erfinv(f64::NAN).is_nan());
    }

    #[test]
    fn erfinv_inverts() {
        for i in 1..2000 {
            let y = f64::from(i) / 2000.;
            close(erf(erfinv(y)), y, 4e-16);
            close(erfinv(-y), -erfinv(y), 0.);
        }
        for k in 1..16 {
            // erfc(x) near 0 is more accurate than 1 - erf(x).
            let tail = 10f64.powi(-k);
            let y = 1. - tail;
            close(erfc(erfinv(y)), 1. - y, 1e-13);
        }
    }
}
