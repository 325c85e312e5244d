//! Files of parameters: saved, loaded, refused.

use super::*;

#[test]
fn saved_and_loaded() {
    let folder = Folder::new("round-trip");
    let path = folder.0.join("net.safetensors");
    let (a, b, c) = (net(), net(), net());
    let _ = a.norm.forward(&Tensor::randn([6, 2])).unwrap();
    assert_ne!(values(&a), values(&b));
    a.save(&path).unwrap();
    assert_eq!(folder.names(), ["net.safetensors"]);
    b.load(&path).unwrap();
    assert_eq!(values(&a), values(&b));
    c.load_bytes(&a.to_bytes().unwrap()).unwrap();
    assert_eq!(values(&a), values(&c));
    assert_eq!(b.norm.num_batches_tracked.as_ref().unwrap().tensor().item().unwrap(), 1);
    // Where the type is not known either.
    let (unknown, d): (&dyn Module, _) = (&a, net());
    (&d as &dyn Module).load_bytes(&unknown.to_bytes().unwrap()).unwrap();
    assert_eq!(values(&a), values(&d));
    let stored = safetensors::load(&path).unwrap();
    assert_eq!(stored.get("norm.num_batches_tracked").unwrap().dtype(), DType::I64);
    assert_eq!(stored.len(), a.state_dict().len());
    // Written again, over the old file.
    c.fc1.weight.update(|mut w| w.fill(2.0));
    c.save(&path).unwrap();
    b.load(&path).unwrap();
    assert_eq!(values(&c), values(&b));
}

#[test]
fn a_failing_write_leaves_the_old_file_and_nothing_else() {
    let folder = Folder::new("atomic");
    // A folder has the name of the file: the new file is written next to it, and cannot replace it.
    let taken = folder.0.join("net.safetensors");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("old"), b"old").unwrap();
    let error = net().save(&taken).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().starts_with(&format!("save: cannot write {}", taken.display())), "{error}");
    assert_eq!(fs::read(taken.join("old")).unwrap(), b"old");
    assert_eq!(folder.names(), ["net.safetensors"], "a temporary file was left behind");
    let missing = folder.0.join("no/such/folder/net.safetensors");
    assert_eq!(net().save(&missing).unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(folder.names(), ["net.safetensors"]);
}

#[cfg(unix)]
#[test]
fn an_unwritable_folder_leaves_the_old_file_whole() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("unwritable");
    let path = folder.0.join("net.safetensors");
    net().save(&path).unwrap();
    let old = fs::read(&path).unwrap();
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o555)).unwrap();
    // Root may write everywhere, so there is nothing to test.
    let writable = fs::write(folder.0.join("probe"), b"").is_ok();
    let saved = net().save(&path);
    fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755)).unwrap();
    if !writable {
        assert_eq!(saved.unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(fs::read(&path).unwrap(), old);
        assert_eq!(folder.names(), ["net.safetensors"]);
    }
}

/// The bytes of a safetensors file with one tensor.
fn file(dtype: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let header = format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[0,{}]}}}}"#, data.len());
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

#[test]
fn narrower_types_are_read() {
    let read = |dtype: &str, shape: &[usize], data: &[u8]| {
        safetensors::from_bytes(&file(dtype, shape, data)).unwrap().get("x").unwrap().clone()
    };
    let halves = |bits: &[u16]| bits.iter().flat_map(|b| b.to_le_bytes()).collect::<Vec<u8>>();
    // 1, -2, the largest half, the smallest subnormal, infinity.
    let x = read("F16", &[5], &halves(&[0x3C00, 0xC000, 0x7BFF, 0x0001, 0x7C00]));
    assert_eq!(x.dtype(), DType::F32);
    assert_eq!(x.to::<f32>().to_vec(), [1.0, -2.0, 65504.0, 2f32.powi(-24), f32::INFINITY]);
    assert!(read("F16", &[1], &halves(&[0x7E00])).to::<f32>().to_vec()[0].is_nan());
    let x = read("BF16", &[2, 1], &halves(&[0x3F80, 0xC040]));
    assert_eq!((x.dtype(), x.shape(), x.to::<f32>().to_vec()), (DType::F32, [2, 1].as_slice(), vec![1.0, -3.0]));
    let x = read("I32", &[2], &[(-7i32).to_le_bytes(), i32::MAX.to_le_bytes()].concat());
    assert_eq!((x.dtype(), x.to::<i64>().to_vec()), (DType::I64, vec![-7, i64::from(i32::MAX)]));
    assert_eq!(read("I8", &[2], &[255, 1]).to::<i64>().to_vec(), [-1, 1]);
    assert_eq!(read("U8", &[2], &[255, 1]).to::<i64>().to_vec(), [255, 1]);
    assert_eq!(read("BOOL", &[2], &[0, 1]).to::<bool>().to_vec(), [false, true]);
    assert_eq!(read("F64", &[], &0.1f64.to_le_bytes()).to::<f64>().item().unwrap(), 0.1);
}

#[test]
fn what_is_no_safetensors_file_is_refused() {
    let folder = Folder::new("corrupt");
    let path = folder.0.join("net.safetensors");
    let whole = net().to_bytes().unwrap();
    let mut offsets = whole.clone();
    offsets.truncate(whole.len() - 4);
    for (what, bytes) in [("empty", vec![]), ("text", b"not a file of weights at all".to_vec()), ("cut off", offsets)] {
        fs::write(&path, &bytes).unwrap();
        let net = net();
        let before = values(&net);
        let error = net.load(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format, "{what}");
        let text = error.to_string();
        assert!(text.starts_with("safetensors: this is not a safetensors file: "), "{what}: {text}");
        assert!(text.ends_with(&format!("; in {}", path.display())), "{what}: {text}");
        assert_eq!(values(&net), before);
    }
    let error = safetensors::from_bytes(&file("U64", &[1], &[0; 8])).unwrap_err();
    assert!(error.to_string().contains("`x` is of type U64, which has no place"), "{error}");
    let error = net().load(folder.0.join("missing")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().starts_with("load: cannot read ") && error.to_string().contains("missing"), "{error}");
    let error = {
        Linear::new(1, 1).save(&path).unwrap();
        net().load(&path).unwrap_err()
    };
    assert!(error.to_string().contains("; unexpected: ") && error.to_string().contains("weight [1, 1]"), "{error}");
    assert!(error.to_string().ends_with(&format!("; in {}", path.display())), "{error}");
}
