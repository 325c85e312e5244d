//! Data sets, loaders, splits, and the readers of IDX and CSV files.

use std::{collections::BTreeSet, fs, io::Write, path::PathBuf, sync::Arc};

use flate2::{Compression, write::GzEncoder};
use ndnn::{
    DType, ErrorKind,
    data::{Csv, DataLoader, Dataset, Subset, TensorDataset, idx, random_split},
    prelude::*,
};

/// `n` samples: row i is [2i, 2i + 1], labelled i.
fn samples(n: usize) -> TensorDataset<(Tensor, Tensor<i64>)> {
    let x = Tensor::arange(0.0, 2.0 * n as f32, 1.0).unwrap().reshape([n as isize, 2]).unwrap();
    TensorDataset::new((x, Tensor::arange(0, n as i64, 1).unwrap())).unwrap()
}

fn labels<D: Dataset<Sample = (Tensor, Tensor<i64>)>>(loader: &DataLoader<D>, epoch: u64) -> Vec<Vec<i64>> {
    loader
        .epoch(epoch)
        .map(|(x, y)| {
            // Each row keeps its label.
            let first: Vec<i64> = x.select(1, 0).unwrap().to_vec().iter().map(|&v| v as i64 / 2).collect();
            assert_eq!(first, y.to_vec());
            assert_eq!(x.shape(), [y.numel(), 2]);
            first
        })
        .collect()
}

#[test]
fn samples_of_tensors() {
    let data = samples(3);
    assert_eq!((data.len(), data.is_empty(), data.tensors().1.shape()), (3, false, [3].as_slice()));
    let (x, y) = data.get(2).unwrap();
    assert_eq!((x, y.item().unwrap()), (tensor![4.0, 5.0], 2));
    let (x, y) = data.batch(&[2, 0, 2]).unwrap();
    assert_eq!((x, y), (tensor![[4.0, 5.0], [0.0, 1.0], [4.0, 5.0]], tensor![2, 0, 2]));
    assert_eq!(data.get(3).unwrap_err().kind(), ErrorKind::Index);
    assert_eq!(data.batch(&[0, 3]).unwrap_err().kind(), ErrorKind::Index);
    let error = TensorDataset::new((Tensor::<f32>::zeros([4, 2]), Tensor::<i64>::zeros([3]))).unwrap_err();
    assert_eq!(error.to_string(), "TensorDataset: the tensors hold different numbers of samples: [4, 3]");
    // One tensor alone, and three.
    assert_eq!(TensorDataset::new(tensor![[1.0], [2.0]]).unwrap().batch(&[1]).unwrap(), tensor![[2.0]]);
    let three = TensorDataset::new((tensor![1.0, 2.0], tensor![3, 4], tensor![true, false])).unwrap();
    assert_eq!(three.batch(&[1]).unwrap(), (tensor![2.0], tensor![4], tensor![false]));
}

#[test]
fn batches_in_order() {
    let loader = DataLoader::new(samples(7), 3);
    assert_eq!((loader.len(), loader.is_empty(), loader.epoch(0).len()), (3, false, 3));
    assert_eq!(labels(&loader, 0), [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
    assert_eq!(labels(&loader, 5), labels(&loader, 0));
    let loader = DataLoader::new(samples(7), 3).drop_last(true);
    assert_eq!((loader.len(), loader.epoch(0).len()), (2, 2));
    assert_eq!(labels(&loader, 0), [vec![0, 1, 2], vec![3, 4, 5]]);
    assert!(DataLoader::new(samples(2), 3).drop_last(true).is_empty());
    assert_eq!(DataLoader::new(samples(6), 3).len(), 2);
}

#[test]
fn shuffled_batches() {
    let loader = DataLoader::new(samples(50), 8).shuffle(true).seed(1);
    let first = labels(&loader, 0);
    assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [8, 8, 8, 8, 8, 8, 2]);
    let mut sorted = first.concat();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..50).collect::<Vec<_>>(), "every sample comes once");
    assert_ne!(first.concat(), sorted);
    assert_eq!(labels(&loader, 0), first, "an epoch's order is its own");
    assert_ne!(labels(&loader, 1), first);
    let again = |seed| labels(&DataLoader::new(samples(50), 8).shuffle(true).seed(seed), 0);
    assert_eq!(again(1), first);
    assert_ne!(again(2), first);
    let dropped = labels(&DataLoader::new(samples(50), 8).shuffle(true).seed(1).drop_last(true), 0);
    assert_eq!(dropped, first[..6]);
}

#[test]
#[should_panic(expected = "a batch_size is at least 1, got 0")]
fn a_batch_of_nothing() {
    let _ = DataLoader::new(samples(2), 0);
}

/// A data set defined by a user: one sample cannot be read.
struct Broken;

impl Dataset for Broken {
    type Sample = Tensor;
    fn len(&self) -> usize {
        3
    }
    fn get(&self, position: usize) -> Result<Tensor> {
        // Samples of different lengths.
        Ok(Tensor::zeros([position + 1]))
    }
}

#[test]
fn samples_that_do_not_fit_together() {
    let error = DataLoader::new(Broken, 2).try_epoch(0).next().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "stack: tensor 1 is [2], the first is [1]: expected one shape");
    assert_eq!(DataLoader::new(Broken, 1).try_epoch(0).nth(2).unwrap().unwrap().shape(), [1, 3]);
}

#[test]
fn splits() {
    let [train, test] = random_split(samples(20), [15, 5]).unwrap();
    assert_eq!((train.len(), test.len()), (15, 5));
    let all: BTreeSet<usize> = train.positions().iter().chain(test.positions()).copied().collect();
    assert_eq!(all, (0..20).collect());
    let (x, y) = test.get(1).unwrap();
    assert_eq!((x.to_vec()[0] as i64 / 2, y.item().unwrap() as usize), (y.item().unwrap(), test.positions()[1]));
    assert_eq!(labels(&DataLoader::new(test.clone(), 5), 0)[0].len(), 5);
    assert_eq!(test.get(5).unwrap_err().to_string(), "Subset: there is no sample 5 among 5");
    let error = random_split(samples(20), [15, 6]).err().unwrap();
    assert_eq!(error.to_string(), "random_split: the lengths [15, 6] add up to 21, the data set has 20 samples");
    let error = Subset::new(Arc::new(samples(3)), vec![0, 3]).err().unwrap();
    assert_eq!(error.to_string(), "Subset: there is no sample 3 in a data set of 3");
}

// -------------------------------------------------------------------------------------------------------------- files

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("ndnn-data-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn idx_bytes(kind: u8, shape: &[u32], data: &[u8]) -> Vec<u8> {
    let sizes: Vec<u8> = shape.iter().flat_map(|s| s.to_be_bytes()).collect();
    [&[0, 0, kind, shape.len() as u8], sizes.as_slice(), data].concat()
}

/// Bytes in gzip format, stored without compression.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let crc = !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 })
    });
    let n = bytes.len() as u16;
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    out.extend([n.to_le_bytes(), (!n).to_le_bytes()].concat());
    out.extend(bytes);
    out.extend([crc.to_le_bytes(), u32::from(n).to_le_bytes()].concat());
    out
}

#[test]
fn idx_files() {
    let folder = Folder::new("idx");
    let bytes = idx_bytes(8, &[2, 3], &[0, 1, 2, 3, 4, 255]);
    for (name, bytes) in [("plain", bytes.clone()), ("packed.gz", gzip(&bytes))] {
        let x = idx::load(folder.write(name, &bytes)).unwrap();
        assert_eq!((x.dtype(), x.to::<i64>()), (DType::I64, tensor![[0, 1, 2], [3, 4, 255]]));
    }
    let load = |kind, data: &[u8]| idx::load(folder.write("x", &idx_bytes(kind, &[1], data))).unwrap();
    assert_eq!(load(0x09, &[255]).to::<i64>(), tensor![-1]);
    assert_eq!(load(0x0B, &(-2i16).to_be_bytes()).to::<i64>(), tensor![-2]);
    assert_eq!(load(0x0C, &70_000i32.to_be_bytes()).to::<i64>(), tensor![70_000]);
    let (single, double) = (load(0x0D, &0.5f32.to_be_bytes()), load(0x0E, &0.1f64.to_be_bytes()));
    assert_eq!((single.dtype(), double.dtype()), (DType::F32, DType::F64));
    assert_eq!((single.to::<f64>(), double.to::<f64>()), (tensor![0.5; f64], tensor![0.1; f64]));
}

#[test]
fn malformed_idx_files() {
    let folder = Folder::new("bad-idx");
    let good = idx_bytes(8, &[2, 3], &[0; 6]);
    let refused = |bytes: &[u8], expected: &str| {
        let path = folder.write("x", bytes);
        let error = idx::load(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format, "{error}");
        assert!(error.to_string().starts_with(&format!("idx: {}: {expected}", path.display())), "{error}");
    };
    refused(&good[..good.len() - 1], "shape [2, 3] of 1-byte elements takes 6 bytes, the file holds 5");
    refused(&[good.as_slice(), &[0]].concat(), "shape [2, 3] of 1-byte elements takes 6 bytes, the file holds more");
    refused(&good[..9], "the file ends inside its header");
    refused(b"PK\x03\x04zip", "not an IDX file: it does not begin with two zero bytes");
    refused(b"", "not an IDX file");
    refused(&idx_bytes(7, &[1], &[0]), "unknown element type 0x07");
    refused(
        &idx_bytes(8, &[u32::MAX, u32::MAX, u32::MAX], &[0]),
        "shape [4294967295, 4294967295, 4294967295] of 1-byte elements is more than a machine can hold",
    );
    // An announced size allocates nothing: no machine has 2^62 bytes.
    refused(&idx_bytes(0x0E, &[1 << 30, 1 << 29], &[0; 8]), "shape [1073741824, 536870912] of 8-byte elements takes");
    refused(&idx_bytes(8, &[], &[]), "not an IDX file");
    refused(&idx_bytes(8, &[0], &[0]), "shape [0] of 1-byte elements takes 0 bytes, the file holds more");
    let packed = gzip(&good);
    refused(&packed[..packed.len() - 12], "damaged gzip data");
    let error = idx::load(folder.0.join("missing")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().starts_with("idx: cannot read "), "{error}");
}

/// 100 MB of zeros, compressed to 100 KB, after a header: reading stops after the first byte that is too many.
#[test]
fn a_gzip_bomb_is_not_unpacked() {
    struct Zeros(usize);
    impl std::io::Read for Zeros {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let n = out.len().min(self.0);
            out[..n].fill(0);
            self.0 -= n;
            Ok(n)
        }
    }
    let folder = Folder::new("bomb");
    for (head, expected) in [
        (idx_bytes(8, &[2], &[]), "shape [2] of 1-byte elements takes 2 bytes, the file holds more"),
        (b"no header".to_vec(), "not an IDX file"),
    ] {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&head).unwrap();
        std::io::copy(&mut Zeros(100_000_000), &mut packed).unwrap();
        let path = folder.write("x.gz", &packed.finish().unwrap());
        let mut error = None;
        let used = allocation_counter::measure(|| error = Some(idx::load(&path).unwrap_err()));
        let error = error.unwrap();
        assert!(error.to_string().starts_with(&format!("idx: {}: {expected}", path.display())), "{error}");
        assert!(used.bytes_max < 1_000_000, "{} bytes", used.bytes_max);
    }
}

#[test]
fn images_and_labels() {
    let folder = Folder::new("mnist");
    folder.write("t10k-images-idx3-ubyte", &idx_bytes(8, &[2, 2, 2], &[0, 255, 51, 0, 0, 0, 0, 102]));
    assert!(idx::mnist(&folder.0, false).unwrap_err().to_string().contains("holds neither t10k-labels-idx1-ubyte nor"));
    folder.write("t10k-labels-idx1-ubyte.gz", &gzip(&idx_bytes(8, &[2], &[7, 3])));
    let (x, y) = idx::mnist(&folder.0, false).unwrap();
    assert_eq!((x.shape(), y), ([2, 1, 2, 2].as_slice(), tensor![7, 3]));
    assert_eq!(x.to_vec(), [0.0, 1.0, 0.2, 0.0, 0.0, 0.0, 0.0, 0.4]);
    folder.write("t10k-labels-idx1-ubyte.gz", &gzip(&idx_bytes(8, &[3], &[7, 3, 1])));
    assert!(idx::mnist(&folder.0, false).unwrap_err().to_string().ends_with("2 images but labels of shape [3]"));
}

#[test]
fn csv_files() {
    let folder = Folder::new("csv");
    let path = folder.0.join("x.csv");
    fs::File::create(&path).unwrap().write_all(b"a,b\n1, 2.5\n-3e2,4\n").unwrap();
    assert_eq!(Csv::new().header(true).load::<f32>(&path).unwrap(), tensor![[1.0, 2.5], [-300.0, 4.0]]);
    let error = Csv::new().load::<f32>(&path).unwrap_err();
    assert_eq!(error.to_string(), format!("csv: line 1, column 1: `a` is not a number; in {}", path.display()));
    let packed = folder.write("x.csv.gz", &gzip(b"1;2\n3;4\n"));
    assert_eq!(Csv::new().delimiter(b';').load::<f64>(packed).unwrap(), tensor![[1, 2], [3, 4]; f64]);
    let gaps = Csv::new().read::<f32>("1,\n,4\n".as_bytes()).unwrap().to_vec();
    assert!(gaps[1].is_nan() && gaps[2].is_nan() && gaps[0] == 1.0 && gaps[3] == 4.0);
    let error = Csv::new().read::<f32>("1,2\n3\n".as_bytes()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Format);
    assert!(error.to_string().starts_with("csv: malformed file: ") && error.to_string().contains("line: 2"), "{error}");
    let error = Csv::new().load::<f32>(folder.0.join("missing.csv")).unwrap_err();
    assert!(error.to_string().starts_with("csv: cannot read "), "{error}");
}
