//! What happens when memory is refused.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ndnn::{
    autograd,
    data::{Csv, Dataset, Subset, TensorDataset, idx},
    functional as F, io,
    prelude::*,
};

use super::{common, zeros};

/// A data set that uses the default implementation of `batch`.
struct Plain;

impl Dataset for Plain {
    type Sample = Tensor;
    fn len(&self) -> usize {
        1 << 60
    }
    fn get(&self, _: usize) -> Result<Tensor> {
        Ok(zeros(&[]))
    }
}

/// If an operation cannot allocate what it needs in addition to its result, it panics in a way that a caller can catch,
/// as for the result; `collect` and `with_capacity` would abort the process. This test runs in a process of its own,
/// with little memory.
#[test]
fn memory_that_is_refused_inside_an_operation() {
    if std::env::var_os("NDNN_TEST_LITTLE_MEMORY").is_some() {
        return in_little_memory();
    }
    let mut shell = std::process::Command::new("sh");
    shell.args([
        "-c",
        "ulimit -v 400000; exec \"$0\" --exact memory::memory_that_is_refused_inside_an_operation --nocapture",
    ]);
    shell.arg(std::env::current_exe().unwrap());
    // A backtrace of its panics would itself need memory.
    shell
        .env("NDNN_TEST_LITTLE_MEMORY", "1")
        .env("NDNN_NUM_THREADS", "1")
        .env("MALLOC_ARENA_MAX", "1")
        .env("RUST_BACKTRACE", "0");
    let output = shell.output().unwrap();
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{:?}\n{out}\n{error}", output.status);
}

/// The text of the error or panic of a call, which must be that memory was refused.
fn refusal(name: &str, call: &dyn Fn() -> Result<()>) -> String {
    ndnn::memory::clear();
    let text = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.expect_err(name).to_string(),
        Err(payload) => common::text(&*payload).to_string(),
    };
    assert!(text.contains("out of memory") || text.contains("does not fit into memory, it takes"), "{name}: {text}");
    text
}

fn in_little_memory() {
    let many = Tensor::<bool>::ones([1 << 25]);
    let calls: [(&str, &dyn Fn() -> Result<()>); 4] = [
        ("argsort", &|| many.argsort(0, true).map(drop)),
        ("topk", &|| many.topk(3, 0, true).map(drop)),
        ("nonzero", &|| many.reshape([1, 1, 1, -1]).map(|x| drop(x.nonzero()))),
        ("to_vec", &|| {
            drop((0..20).map(|_| many.to_vec()).collect::<Vec<_>>());
            Ok(())
        }),
    ];
    for (name, call) in calls {
        println!("{name}: {}", refusal(name, call));
    }
    next_to_nothing();
    assert_eq!(tensor![3., 1.].argsort(0, false).unwrap(), tensor![1, 0]);
}

type Call = Box<dyn Fn() -> Result<()>>;

/// With less than 4 MB left: each call needs more than that.
fn next_to_nothing() {
    const N: usize = 1 << 20;
    let flags = Tensor::<bool>::ones([N, 1]);
    let (line, index) = (Tensor::<f32>::zeros([1, 1, N]), Tensor::<i64>::zeros([N]));
    let (param, learned) = (Param::new(Tensor::<f64>::zeros([N])), Param::new(Tensor::<f32>::ones([2 * N])));
    let snapshot = param.tensor();
    let (values, all) = (&snapshot, flags.reshape(-1).unwrap());
    fn with(values: &Tensor<f64>, f: impl Fn(&Tensor<f64>) -> Result<Tensor<f64>> + 'static) -> Call {
        let values = values.clone();
        Box::new(move || f(&values).map(drop))
    }
    learned.set_grad(Some(Tensor::ones([2 * N]))).unwrap();
    let subset = Subset::new(std::sync::Arc::new(TensorDataset::new(flags.clone()).unwrap()), vec![0; N]).unwrap();
    let (places, few) = (vec![0; N], vec![0; N / 4]);
    let header = format!(r#"{{"w":{{"dtype":"U8","shape":[{N}],"data_offsets":[0,{N}]}}}}"#);
    let stored = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &vec![0; N]].concat();
    let file = std::env::temp_dir().join(format!("ndnn-little-memory-{}", std::process::id()));
    std::fs::write(&file, [&[0, 0, 8, 1], &(N as u32).to_be_bytes()[..], &vec![7; N]].concat()).unwrap();
    let (idx_file, wide) = (file.clone(), Tensor::<f64>::zeros([4000, 1]));
    let (x, column) = (zeros(&[2048, 1]), line.reshape([-1, 1]).unwrap());
    let calls: [(&str, Call); 18] = [
        ("argmax", Box::new(move || column.argmax(Some(1), false).map(drop))),
        ("unbind", {
            let index = index.clone();
            Box::new(move || index.unbind(0).map(drop))
        }),
        ("split", {
            let index = index.clone();
            Box::new(move || index.split(1, 0).map(drop))
        }),
        ("causal", {
            // What needs no scores needs no such memory; a mask with a gradient does.
            let causal = F::ScaledDotProductAttentionOptions::default().is_causal(true);
            let _ = F::scaled_dot_product_attention(&x, &x, &x, None, causal).expect("memory for the result");
            Box::new(move || {
                let mask = zeros(&[1]).set_requires_grad(true);
                F::scaled_dot_product_attention(&x, &x, &x, Some(&(&mask).into()), Default::default()).map(drop)
            })
        }),
        ("max_pool", Box::new(move || F::max_pool1d(&line, 1, Default::default()).map(drop))),
        ("renorm", Box::new(move || F::embedding_renorm(&zeros(&[1, 1]), &index, 1., 2.).map(drop))),
        (
            "update",
            Box::new(move || {
                param.update(|mut x| x.fill(1.));
                Ok(())
            }),
        ),
        ("clip", Box::new(move || ndnn::nn::utils::clip_grad_norm(vec![learned.clone()], 1.).map(drop))),
        ("subset", Box::new(move || subset.batch(&places).map(drop))),
        ("batch", Box::new(move || Plain.batch(&few).map(drop))),
        ("from_bytes", Box::new(move || io::safetensors::from_bytes(&stored).map(drop))),
        ("idx", Box::new(move || idx::load(&idx_file).map(drop))),
        ("csv", Box::new(|| Csv::new().read::<f64>(Lines(0)).map(drop))),
        (
            "gradcheck",
            Box::new(move || {
                autograd::gradcheck(
                    |x| x[0].reshape([1, -1])?.repeat([5, 1])?.reshape(-1)?.narrow(0, 0, 10_000),
                    std::slice::from_ref(&wide),
                    Default::default(),
                )
            }),
        ),
        ("masked_select", with(values, move |x| x.masked_select(&all))),
        ("repeat_interleave", with(values, |x| x.repeat_interleave(2, None))),
        ("cumprod", with(values, |x| x.cumprod(0))),
        ("prod", with(values, |x| x.reshape([1, -1])?.prod_dim(0, false))),
    ];
    let shown = Tensor::<f64>::zeros([2; 17]);
    let state = StateDict::from_iter([("w".to_string(), Tensor::<f64>::ones([N, 2]).into())]);
    let mut held: Vec<Vec<u8>> = (0..200).map(|_| Vec::new()).collect();
    ndnn::memory::clear();
    held.iter_mut().map_while(|held| held.try_reserve_exact(4 << 20).ok()).count();
    for (name, call) in &calls {
        println!("{name}: {}", refusal(name, call));
    }
    // These allocate nothing.
    use std::io::Write;
    write!(std::io::sink(), "{shown}").unwrap();
    io::safetensors::save(&file, &state).unwrap();
    drop(held);
    assert_eq!(io::safetensors::load(&file).unwrap().get("w").unwrap().shape(), [N, 2]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(snapshot.sum().item().unwrap(), 0.);
}

/// Lines of a thousand zeros, without an end.
struct Lines(usize);

impl std::io::Read for Lines {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        for byte in &mut *out {
            *byte = match self.0 % 2000 {
                1999 => b'\n',
                even if even % 2 == 0 => b'0',
                _ => b',',
            };
            self.0 += 1;
        }
        Ok(out.len())
    }
}
