//! Piecewise functions of `f32`: |x| selects a polynomial, whose coefficients are looked up in registers. This needs
//! AVX-512, where one instruction looks up a table of 32 numbers; a table in memory would be read one number at a time.

use std::{
    arch::x86_64::{
        __m512, _mm512_add_ps, _mm512_and_si512, _mm512_andnot_si512, _mm512_castps_si512, _mm512_castsi512_ps,
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_min_ps, _mm512_or_si512,
        _mm512_permutex2var_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_srli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
    },
    mem::MaybeUninit,
};

use crate::kernels::walk::MOST;

/// Elements per vector.
const LANES: usize = 16;

/// tanh in 32 pieces: 1/16 wide from 0 to 3/8, then 1/8 wide to 11/8, 1/4 to 27/8, 1/2 to 59/8, 1 to 67/8; the last one
/// ends at [`TANH_END`]. The first row is c, a number near the middle of the piece whose tanh is nearly an `f32`; the
/// others are the coefficients of tanh in powers of r = |x| - c, from that `f32` to r⁴. They minimise the relative
/// error of tanh, which is at most 2⁻²⁵. In the first piece c is 0 and tanh begins with r, so that small numbers are
/// returned unchanged.
#[rustfmt::skip]
static TANH: [[f32; 32]; 6] = looked_up([
    [
        0., 9.374841e-2, 1.5624742e-1, 2.1874551e-1, 2.8124323e-1, 3.4373766e-1, 4.3748847e-1, 5.624765e-1, 6.874732e-1,
        8.124617e-1, 9.374493e-1, 1.0624502, 1.1874652, 1.3124193, 1.499888, 1.7498012, 1.9997032, 2.24948, 2.499144,
        2.7485323, 2.9976401, 3.2461114, 3.616677, 4.1097746, 4.609377, 5.1093817, 5.6097093, 6.1113644, 6.6171665,
        7.1188183, 7.8596206, 8.66434,
    ],
    [
        0., 9.347473e-2, 1.5498821e-1, 2.1532206e-1, 2.7405533e-1, 3.3081013e-1, 4.1156048e-1, 5.098126e-1, 5.963563e-1,
        6.70946e-1, 7.340481e-1, 7.865998e-1, 8.2979107e-1, 8.648863e-1, 9.05128e-1, 9.413529e-1, 9.640066e-1,
        9.780035e-1, 9.865915e-1, 9.918359e-1, 9.950314e-1, 9.9697423e-1, 9.9855685e-1, 9.994615e-1, 9.998017e-1,
        9.9992704e-1, 9.999732e-1, 9.9999017e-1, 9.999964e-1, 9.999987e-1, 9.999997e-1, 9.9999994e-1,
    ],
    [
        1., 9.9126244e-1, 9.759786e-1, 9.536364e-1, 9.248937e-1, 8.905647e-1, 8.30618e-1, 7.400913e-1, 6.4435947e-1,
        5.4983175e-1, 4.611736e-1, 3.812609e-1, 3.114469e-1, 2.5197178e-1, 1.8074349e-1, 1.1385444e-1, 7.069091e-2,
        4.3508846e-2, 2.663696e-2, 1.6261417e-2, 9.912388e-3, 6.0423296e-3, 2.8837693e-3, 1.0766096e-3, 3.9651207e-4,
        1.4588551e-4, 5.3635602e-5, 1.9666486e-5, 7.151412e-6, 2.6221826e-6, 5.944744e-7, 1.19206305e-7,
    ],
    [
        5.9432746e-6, -9.2657834e-2, -1.5126514e-1, -2.0533887e-1, -2.5347188e-1, -2.9460782e-1, -3.4184942e-1,
        -3.7730747e-1, -3.8426834e-1, -3.6890775e-1, -3.3852336e-1, -2.9990038e-1, -2.584355e-1, -2.1792698e-1,
        -1.6359697e-1, -1.0717761e-1, -6.814691e-2, -4.2552114e-2, -2.6279924e-2, -1.612887e-2, -9.863244e-3,
        -6.0241856e-3, -2.8803106e-3, -1.0764558e-3, -3.965986e-4, -1.4593556e-4, -5.365581e-5, -1.9673711e-5,
        -7.1525683e-6, -2.6225325e-6, -5.959358e-7, -1.1994088e-7,
    ],
    [
        -3.3391094e-1, -3.2160854e-1, -3.017346e-1, -2.7358967e-1, -2.3879209e-1, -1.9940402e-1, -1.362186e-1,
        -5.455275e-2, 1.4080302e-2, 6.393662e-2, 9.451122e-2, 1.0862908e-1, 1.1050879e-1, 1.0442384e-1, 8.777594e-2,
        6.3011095e-2, 4.2223487e-2, 2.719112e-2, 1.7104272e-2, 1.0613891e-2, 6.53396e-3, 4.006464e-3, 1.9435218e-3,
        7.273218e-4, 2.68161e-4, 9.870146e-5, 3.629379e-5, 1.3310728e-5, 4.8419415e-6, 1.7755242e-6, 4.225859e-7,
        8.023828e-8,
    ],
    [
        1.5964946e-2, 6.067911e-2, 9.7243e-2, 1.2722412e-1, 1.4964698e-1, 1.640593e-1, 1.6973984e-1, 1.5325204e-1,
        1.196657e-1, 8.006567e-2, 4.3328933e-2, 1.4641845e-2, -5.6516584e-3, -1.7659474e-2, -2.4777904e-2,
        -2.3482429e-2, -1.7894262e-2, -1.2339331e-2, -8.072727e-3, -5.113958e-3, -3.1918269e-3, -1.9650154e-3,
        -9.5018937e-4, -3.526058e-4, -1.3004954e-4, -4.7891685e-5, -1.762649e-5, -6.4822125e-6, -2.3913537e-6,
        -8.790409e-7, -2.0371604e-7, -3.1274624e-8,
    ],
]);

/// From here on tanh rounds to 1.
const TANH_END: f32 = 9.25;

/// The rows of a table in the order in which [`tanh`] looks them up: |x| = 0 is looked up at 5/8, whose eighth of an
/// octave ends in the bits of 18.
const fn looked_up(table: [[f32; 32]; 6]) -> [[f32; 32]; 6] {
    let mut out = table;
    let mut i = 0;
    while i < 6 * 32 {
        out[i / 32][(i + 18) % 32] = table[i / 32][i % 32];
        i += 1;
    }
    out
}

/// A row of a table, in two registers.
#[allow(unsafe_code)]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn halves(row: &[f32; 2 * LANES]) -> (__m512, __m512) {
    // SAFETY: both halves are `LANES` elements long.
    unsafe { (_mm512_loadu_ps(row.as_ptr()), _mm512_loadu_ps(row.as_ptr().add(LANES))) }
}

/// The hyperbolic tangent of each element: within 1.4 ulp. It uses the polynomials of [`TANH`], without the division that
/// takes most of the time of [`super::tanh`]. The last elements go through the same instructions as the others, in a partly
/// filled vector, so that the bits of a result do not depend on its position.
///
/// # Safety
/// As for [`RunFn`](crate::kernels::walk::RunFn), on a CPU that has AVX-512.
#[allow(unsafe_code)]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub unsafe fn tanh(_: *const (), &[x, ..]: &[*const u8; MOST], out: &mut [MaybeUninit<u8>]) {
    let sign = _mm512_set1_epi32(i32::MIN);
    let (end, offset) = (_mm512_set1_ps(TANH_END), _mm512_set1_ps(0.625));
    let [c, c0, c1, c2, c3, c4] = &TANH;
    let (c, c0, c1) = (halves(c), halves(c0), halves(c1));
    let (c2, c3, c4) = (halves(c2), halves(c3), halves(c4));
    let of_vector = |x| {
        let x = _mm512_castps_si512(x);
        // If one of two numbers is NaN, the minimum is the second one.
        let size = _mm512_min_ps(end, _mm512_castsi512_ps(_mm512_andnot_si512(sign, x)));
        // A piece is an eighth of an octave of |x| + 5/8. It is looked up by 5 bits: the last 2 of the exponent and the
        // first 3 of the mantissa.
        let piece = _mm512_srli_epi32::<20>(_mm512_castps_si512(_mm512_add_ps(size, offset)));
        let of_piece = |(low, high)| _mm512_permutex2var_ps(low, piece, high);
        let r = _mm512_sub_ps(size, of_piece(c));
        let y = _mm512_fmadd_ps(r, of_piece(c4), of_piece(c3));
        let y = _mm512_fmadd_ps(r, y, of_piece(c2));
        let y = _mm512_fmadd_ps(r, y, of_piece(c1));
        let y = _mm512_fmadd_ps(r, y, of_piece(c0));
        _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(y), _mm512_and_si512(sign, x)))
    };
    let (n, from, to) = (out.len() / size_of::<f32>(), x.cast::<f32>(), out.as_mut_ptr().cast::<f32>());
    let (whole, rest) = (n / LANES * LANES, n % LANES);
    // SAFETY: the caller's promise; the mask leaves out what is beyond the ends of both, which are equally long.
    unsafe {
        for i in (0..whole).step_by(LANES) {
            _mm512_storeu_ps(to.add(i), of_vector(_mm512_loadu_ps(from.add(i))));
        }
        if rest > 0 {
            let mask = (1 << rest) - 1;
            _mm512_mask_storeu_ps(to.add(whole), mask, of_vector(_mm512_maskz_loadu_ps(mask, from.add(whole))));
        }
    }
}
