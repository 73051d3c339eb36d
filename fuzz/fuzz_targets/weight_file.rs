//! A GGUF file from a stranger: the reader, hyper-parameters and tokenizer must refuse what is wrong, never panic and
//! never allocate more than a small multiple of the file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model::gguf::Gguf;
use model::{Hyperparameters, Tokenizer};

fuzz_target!(|bytes: &[u8]| {
    let Ok(gguf) = Gguf::parse(bytes.to_vec()) else { return };
    for tensor in gguf.tensors() {
        assert_eq!(gguf.tensor_bytes(tensor).len(), tensor.range.len());
    }
    let _ = Hyperparameters::from_gguf(&gguf);
    if let Ok(tokenizer) = Tokenizer::from_gguf(&gguf)
        && let Ok(ids) = tokenizer.encode("Hello, world 123")
    {
        tokenizer.decode(&ids);
    }
});
