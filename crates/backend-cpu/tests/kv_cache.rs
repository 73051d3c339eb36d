//! Pages that hold keys and values in 8 bits: the same bits however work is cut, and nearly the answers of 16.

mod common;

use backend::{Backend, PageId};
use backend_cpu::KvType;
use common::*;
use kernels::DType;

fn models() -> impl Iterator<Item = Tiny> {
    decoders().flat_map(|a| [DType::F32, DType::Q8_0].map(|dtype| Tiny::new(a, dtype)))
}

#[test]
fn chunks_pages_and_threads_change_no_bit() {
    for tiny in models() {
        let gguf = tiny.gguf();
        // Two splits of 256 slots.
        let tokens = random_tokens(3, 300);
        let open = |threads| open_kv(&gguf, KvType::Q8_0, threads);
        let whole = logits(&mut open(1), &mut Sequence::new(0..19), &tokens, 300);
        for (threads, chunk) in [(1, 7), (2, 300), (3, 16)] {
            let pages = (0..19).map(|page| (page * 37 + threads as u32 + chunk as u32) % 128);
            let found = logits(&mut open(threads), &mut Sequence::new(pages), &tokens, chunk);
            assert_same_bits(&whole, &found, &format!("{tiny:?} {threads} threads, chunks of {chunk}"));
        }
    }
}

#[test]
fn every_architecture_is_near_what_it_says_with_16_bits() {
    for architecture in decoders() {
        let gguf = Tiny::new(architecture, DType::F32).gguf();
        let tokens = random_tokens(3, 40);
        let [expected, found] = [KvType::I16, KvType::Q8_0].map(|kv_type| {
            logits(&mut open_kv(&gguf, kv_type, 1), &mut Sequence::new([4, 1, 2]), &tokens, 20)
        });
        let distance = distance(&expected, &found);
        // As of activations in 8 bits: see tests/architectures.rs.
        assert!(distance > 0.0 && distance < 0.5, "{architecture:?}: logits differ by {distance}");
    }
    for architecture in encoders() {
        let gguf = Tiny::new(architecture, DType::F32).gguf();
        let tokens = random_tokens(3, 40);
        let [expected, found] = [KvType::I16, KvType::Q8_0]
            .map(|kv_type| hidden(&mut open_kv(&gguf, kv_type, 1), &mut Sequence::new([4, 1, 2]), &tokens));
        let distance = distance(&expected, &found);
        assert!(distance > 0.0 && distance < 0.5, "{architecture:?}: rows differ by {distance}");
    }
}

#[test]
fn pages_can_be_moved_between_backends_and_are_refused_where_others_are() {
    let gguf = Tiny::new(architecture("mistral"), DType::Q8_0).gguf();
    let mut backend = open_kv(&gguf, KvType::Q8_0, 2);
    let (head, tail) = (random_tokens(1, 37), random_tokens(2, 9));
    let mut original = Sequence::new([0, 1, 2]);
    logits(&mut backend, &mut original, &head, 37);
    let mut moved = original.clone();
    let mut other = open_kv(&gguf, KvType::Q8_0, 1);
    let mut in_i16 = open_kv(&gguf, KvType::I16, 1);
    for (index, page) in moved.pages.iter_mut().enumerate() {
        let mut bytes = Vec::new();
        backend.read_page(page.page, &mut bytes).unwrap();
        assert_eq!(bytes.len(), backend.limits().page_bytes);
        assert!(in_i16.write_page(page.page, &bytes).is_err());
        page.page = PageId(100 + index as u32);
        other.write_page(page.page, &bytes).unwrap();
    }
    let expected = logits(&mut backend, &mut original, &tail, 9);
    assert_same_bits(&expected, &logits(&mut other, &mut moved, &tail, 9), "moved pages");
}
