//! Damaged GGUF files: each is refused with a clear message, none makes the reader panic or allocate.

use std::io::Write;

use kernels::DType;
use model::gguf::writer::GgufWriter;
use model::gguf::{Array, Gguf, GgufError, Value};
use model::{Hyperparameters, RopePairing, Tokenizer, Weights, test_model};
use proptest::prelude::*;

fn small() -> GgufWriter {
    let mut writer = GgufWriter::new();
    writer.metadata_str("general.name", "small");
    writer.metadata("numbers", Value::Array(Array::I32(vec![1, -2, 3])));
    writer.metadata("words", Value::Array(Array::String(vec!["a".into(), "bc".into()])));
    writer.metadata("yes", Value::Bool(true));
    writer.tensor_f32("a", &[2, 3], &[1.0; 6]);
    writer.tensor("b", DType::Q8_0, &[2, 32], vec![1; 68]);
    writer
}

/// Header fields, then whatever `rest` says: metadata and tensor table.
fn file(tensors: u64, pairs: u64, rest: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(pairs.to_le_bytes());
    bytes.extend(rest.concat());
    bytes
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn tensor(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = string(name);
    bytes.extend((dims.len() as u32).to_le_bytes());
    bytes.extend(dims.iter().flat_map(|n| n.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

fn refused(bytes: Vec<u8>, expected: &str) {
    let error = Gguf::parse(bytes).unwrap_err().to_string();
    assert!(error.contains(expected), "expected `{expected}` in: {error}");
}

#[test]
fn what_is_written_is_read() {
    let gguf = Gguf::parse(small().to_bytes()).unwrap();
    assert_eq!(gguf.version(), 3);
    assert_eq!(gguf.get_str("general.name").unwrap(), Some("small"));
    assert_eq!(gguf.get_array("numbers").unwrap().unwrap().to_i64s().unwrap(), [1, -2, 3]);
    assert_eq!(gguf.get_strings("words").unwrap().unwrap(), ["a", "bc"]);
    assert_eq!(gguf.get_bool("yes").unwrap(), Some(true));
    assert_eq!(gguf.get_u64("no").unwrap(), None);
    assert!(matches!(gguf.get_u64("yes"), Err(GgufError::ValueType { .. })));
    let weights = Weights::from_gguf(&gguf);
    let b = weights.get("b").unwrap();
    assert_eq!((b.dtype, b.rows, b.cols, b.bytes), (DType::Q8_0, 2, 32, &[1_u8; 68][..]));
    assert_eq!((weights.len(), weights.parameters(), weights.bytes()), (2, 70, 92));
}

#[test]
fn other_files_are_recognized() {
    refused(vec![], "not a GGUF file");
    refused(b"GG".to_vec(), "not a GGUF file");
    refused(b"PK\x03\x04....".to_vec(), "PyTorch");
    refused(b"version https://git-lfs".to_vec(), "git lfs pull");
    refused(b"GGUF\x01\0\0\0".to_vec(), "version 1");
    refused(b"GGUF\0\0\0\x03".to_vec(), "big endian");
    refused(b"GGUF\x03\0\0\0\x01".to_vec(), "ends inside of the tensor count");
}

#[test]
fn lying_counts_and_lengths_are_refused() {
    refused(file(1 << 60, 0, &[]), "1152921504606846976 tensors");
    refused(file(0, 1 << 60, &[]), "1152921504606846976 metadata pairs");
    refused(file(0, 1, &[&u64::MAX.to_le_bytes(), &[0; 8]]), "ends inside of a metadata key");
    let key = string("k");
    refused(
        file(0, 1, &[&key, &8_u32.to_le_bytes(), &(1_u64 << 40).to_le_bytes()]),
        "ends inside of a metadata value",
    );
    for kind in [0_u32, 5, 7, 8, 12] {
        let array = [&9_u32.to_le_bytes()[..], &kind.to_le_bytes(), &(1_u64 << 60).to_le_bytes()].concat();
        refused(file(0, 1, &[&key, &array]), "but the");
    }
    let nested = [&9_u32.to_le_bytes()[..], &9_u32.to_le_bytes(), &1_u64.to_le_bytes()].concat();
    refused(file(0, 1, &[&key, &nested]), "array of arrays");
    refused(file(0, 1, &[&key, &77_u32.to_le_bytes(), &[0]]), "value type 77");
    refused(file(0, 1, &[&key, &7_u32.to_le_bytes(), &[2]]), "bool with value 2");
    refused(file(0, 1, &[&1_u64.to_le_bytes(), &[0xff], &[0; 8]]), "UTF-8");
    let pair = [&key[..], &7_u32.to_le_bytes(), &[1]].concat();
    refused(file(0, 2, &[&pair, &pair]), "occurs twice");
}

/// A header with one array of `count` strings, for a file whose weights are zeros.
fn strings(count: u64) -> Vec<u8> {
    file(0, 1, &[&string("k"), &9_u32.to_le_bytes(), &8_u32.to_le_bytes(), &count.to_le_bytes()])
}

/// Of a hole in a file nothing is on disk, and reading it gives zeros: empty strings, eight bytes each.
#[test]
fn weights_cannot_pass_for_a_header() {
    const BYTES: u64 = 64 << 30;
    let mut sparse = tempfile::NamedTempFile::new().unwrap();
    sparse.write_all(&strings(BYTES / 8 - 100)).unwrap();
    sparse.as_file().set_len(BYTES).unwrap();
    // Room for that many strings is 192 GiB, which ended the process.
    let error = Gguf::open(sparse.path()).unwrap_err().to_string();
    assert!(error.contains("more than 134217728 bytes for strings in an array"), "{error}");

    // As many as a header can hold, but the first has no end: only so much memory as was read.
    let mut bytes = strings((100 << 20) / 8);
    bytes.extend(u64::MAX.to_le_bytes());
    bytes.resize(200 << 20, 0);
    refused(bytes, "ends inside of a string of an array");

    for kind in [0_u32, 12] {
        let array = [&9_u32.to_le_bytes()[..], &kind.to_le_bytes(), &(140_u64 << 20).to_le_bytes()].concat();
        let mut bytes = file(0, 1, &[&string("k"), &array]);
        bytes.resize(2 << 30, 0);
        refused(bytes, "bytes for values in an array");
    }
}

#[test]
fn impossible_tensors_are_refused() {
    let data = [0_u8; 256];
    let one = |tensor: Vec<u8>, expected: &str| refused(file(1, 0, &[&tensor, &data]), expected);
    one(tensor("t", &[], 0, 0), "0 dimensions");
    one(tensor("t", &[1, 1, 1, 1, 1], 0, 0), "5 dimensions");
    one(tensor("t", &[4, 0], 0, 0), "impossible shape [4, 0]");
    one(tensor("t", &[1 << 40, 1 << 40], 0, 0), "impossible shape");
    one(tensor("t", &[1 << 62], 0, 0), "impossible shape");
    one(tensor("t", &[32], 999, 0), "ggml type 999");
    one(tensor("t", &[33], 8, 0), "multiple of 32");
    one(tensor("t", &[8], 0, 5), "multiple of 32");
    one(tensor("t", &[800], 0, 0), "needs 3200 bytes");
    one(tensor("t", &[8], 0, u64::MAX - 31), "needs 32 bytes");
    let two = |second: Vec<u8>, expected: &str| {
        refused(file(2, 0, &[&tensor("t", &[16], 0, 0), &second, &data]), expected);
    };
    two(tensor("u", &[8], 0, 32), "`t` and `u` overlap");
    two(tensor("t", &[8], 0, 64), "occurs twice");
    let alignment = |value: u32| {
        let pair = [&string("general.alignment")[..], &4_u32.to_le_bytes(), &value.to_le_bytes()].concat();
        refused(file(0, 1, &[&pair]), "power of two");
    };
    alignment(0);
    alignment(24);
    alignment(1 << 30);
}

#[test]
fn every_truncation_is_refused() {
    let bytes = small().to_bytes();
    for length in 0..bytes.len() {
        assert!(
            Gguf::parse(bytes[..length].to_vec()).is_err(),
            "{length} of {} bytes were accepted",
            bytes.len()
        );
    }
}

/// Everything that reads a file from a stranger.
fn read_all(bytes: Vec<u8>) {
    if let Ok(gguf) = Gguf::parse(bytes) {
        for tensor in gguf.tensors() {
            assert_eq!(gguf.tensor_bytes(tensor).len(), tensor.range.len());
        }
        let _ = Hyperparameters::from_gguf(&gguf);
        let _ = Tokenizer::from_gguf(&gguf);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn changed_files_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
    ) {
        let mut bytes = small().to_bytes();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        read_all(bytes.clone());
        bytes.truncate(length.index(bytes.len()));
        read_all(bytes);
    }

}

proptest! {
    // Fewer, as each builds a tokenizer.
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn changed_models_never_panic(
        changes in prop::collection::vec((0_usize..9000, any::<u8>()), 1..6),
    ) {
        let mut bytes = test_model::build(DType::Q4_0, 1).unwrap().to_bytes();
        for (index, byte) in changes {
            bytes[index] = byte;
        }
        read_all(bytes);
    }
}

#[test]
fn the_test_model_has_its_numbers() {
    for dtype in [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0, DType::Q4_1] {
        let gguf = Gguf::parse(test_model::build(dtype, 7).unwrap().to_bytes()).unwrap();
        let hyper = Hyperparameters::from_gguf(&gguf).unwrap();
        assert_eq!(hyper.architecture.name(), "llama");
        assert_eq!((hyper.layers, hyper.hidden, hyper.heads, hyper.kv_heads), (2, 64, 4, 2));
        assert_eq!((hyper.head_dim, hyper.ffn, hyper.vocab, hyper.context_length), (16, 128, 288, 2048));
        assert_eq!(hyper.rope_pairing, RopePairing::Interleaved);
        assert!(hyper.tied_embeddings && hyper.ropes[0].factors.is_none() && hyper.windows().is_empty());
        let weights = Weights::from_gguf(&gguf);
        assert_eq!(
            weights.get("blk.1.attn_k.weight").map(|k| (k.dtype, k.rows, k.cols)),
            Some((dtype, 32, 64))
        );
        // The quantized values are near those of the same seed in F32.
        let values = |dtype: DType| {
            let gguf = Gguf::parse(test_model::build(dtype, 7).unwrap().to_bytes()).unwrap();
            let weights = Weights::from_gguf(&gguf);
            let tensor = weights.get("token_embd.weight").unwrap();
            let mut values = vec![0.0; tensor.rows * tensor.cols];
            dtype.dequantize(tensor.bytes, &mut values);
            values
        };
        let worst =
            values(dtype).iter().zip(values(DType::F32)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 0.1, "{dtype:?} differs by {worst}");
    }
    assert!(test_model::build(DType::Q6_K, 0).is_err());
    let bytes = |seed| test_model::build(DType::Q8_0, seed).unwrap().to_bytes();
    assert_eq!(bytes(1), bytes(1));
    assert_ne!(bytes(1), bytes(2));
}

#[test]
fn wrong_hyperparameters_are_explained() {
    let check = |change: &dyn Fn(&mut GgufWriter), expected: &str| {
        let mut writer = GgufWriter::new();
        change(&mut writer);
        let gguf = Gguf::parse(writer.to_bytes()).unwrap();
        let error = Hyperparameters::from_gguf(&gguf).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&|_| {}, "general.architecture");
    let named = |name: &'static str| {
        move |writer: &mut GgufWriter| {
            writer.metadata_str("general.architecture", name);
        }
    };
    check(&named("mamba"), "llama, mistral, qwen2, qwen3");
    check(&named("llama"), "llama.");
    let mut writer = test_model::build(DType::F32, 0).unwrap();
    writer.tensor_f32("blk.0.attn_sinks.weight", &[4], &[0.0; 4]);
    let gguf = Gguf::parse(writer.to_bytes()).unwrap();
    let error = Hyperparameters::from_gguf(&gguf).unwrap_err().to_string();
    assert!(error.contains("blk.0.attn_sinks.weight"), "{error}");
}
