//! The same tokens give the same bits whatever the batch, the chunks, the pages and the threads.

mod common;

use backend::{AdapterId, Backend, Batch, LoraMatrix, OutputKind, PageCopy, PageId};
use backend_cpu::{CpuBackend, KvType};
use common::*;
use kernels::DType;
use model::test_model::SplitMix64;
use model::{Hyperparameters, Weights};

fn models() -> impl Iterator<Item = Tiny> {
    let dtypes = [DType::F32, DType::F16, DType::Q8_0];
    decoders().flat_map(move |a| dtypes.map(|d| Tiny::new(a, d)))
}

fn adapter(backend: &mut CpuBackend, hyper: &Hyperparameters, id: u32) -> Vec<LoraMatrix> {
    let mut random = SplitMix64(u64::from(id) + 77);
    let mut matrices = Vec::new();
    for (index, part) in LINEARS.into_iter().enumerate() {
        let Some(shape) = part.shape(hyper) else { continue };
        let rank = 1 + (index as u32 + id) % 4;
        let (a, b) = (
            values(&mut random, rank as usize * shape[1], 0.2),
            values(&mut random, rank as usize * shape[0], 0.2),
        );
        let tensor = format!("blk.1.{}.weight", part.name());
        matrices.push(LoraMatrix { tensor, rank, a, b, scale: 0.5 });
    }
    backend.load_adapter(AdapterId(id), matrices.clone()).unwrap();
    matrices
}

#[test]
fn chunks_pages_and_threads_change_no_bit() {
    for tiny in models() {
        let tokens = random_tokens(3, 150);
        let whole = logits(&mut tiny.open(1), &mut Sequence::new(0..10), &tokens, 150);
        for (threads, chunk) in [(1, 1), (1, 7), (1, 64), (2, 150), (2, 1), (2, 33), (3, 16)] {
            let pages = (0..10).map(|page| (page * 37 + threads as u32 + chunk as u32) % 128);
            let found = logits(&mut tiny.open(threads), &mut Sequence::new(pages), &tokens, chunk);
            assert_same_bits(&whole, &found, &format!("{tiny:?} {threads} threads, chunks of {chunk}"));
        }
    }
}

#[test]
fn small_batches_on_one_thread_between_others_change_no_bit() {
    for tiny in models() {
        let tokens = random_tokens(5, 150);
        let whole = logits(&mut tiny.open(1), &mut Sequence::new(0..10), &tokens, 150);
        // About 0.17 million multiplications a row: chunks of 1 and 5 rows stay on one thread, those of 30 do
        // not.
        let mut backend = open_with(&tiny.gguf(), 3, 2_000_000);
        let mut sequence = Sequence::new(0..10);
        let (mut found, mut rest) = (Vec::new(), tokens.as_slice());
        for chunk in [1, 30, 5, 1].into_iter().cycle() {
            let (now, later) = rest.split_at(chunk.min(rest.len()));
            found.extend(logits(&mut backend, &mut sequence, now, chunk));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        assert_same_bits(&whole, &found, &format!("{tiny:?}"));
    }
}

#[test]
fn splits_of_long_contexts_among_threads_change_no_bit() {
    // Three splits of 256 slots, the last begun.
    let (long, short) = (random_tokens(21, 600), random_tokens(22, 40));
    for tiny in models().filter(|tiny| tiny.dtype == DType::F32) {
        let mut alone = tiny.open(1);
        let whole = logits(&mut alone, &mut Sequence::new(0..38), &long, 300);
        let beside = logits(&mut alone, &mut Sequence::new(40..43), &short, 40);
        for threads in [2, 3] {
            let mut backend = tiny.open(threads);
            let (mut first, mut second) = (Sequence::new(0..38), Sequence::new(40..43));
            let mut found = logits(&mut backend, &mut first, &long[..571], 300);
            found.extend(logits(&mut backend, &mut first, &long[571..580], 1));
            let mut found_beside = logits(&mut backend, &mut second, &short[..20], 20);
            // One row each is computed by every worker for itself, four are shared out.
            for of_each in [1, 1, 4, 4, 10] {
                let mut batch = Batch::default();
                let (at, at_beside) = (found.len(), found_beside.len());
                let rows = first.push(&mut batch, &long[at..at + of_each]);
                ask(&mut batch, rows, &OutputKind::Logits);
                let rows = second.push(&mut batch, &short[at_beside..at_beside + of_each]);
                ask(&mut batch, rows, &OutputKind::Logits);
                let mut both: Vec<_> = run(&mut backend, &batch).into_iter().map(into_logits).collect();
                found_beside.extend(both.split_off(of_each));
                found.extend(both);
            }
            assert_eq!((found.len(), found_beside.len()), (600, 40));
            assert_same_bits(&whole, &found, &format!("{tiny:?} {threads} threads"));
            assert_same_bits(&beside, &found_beside, &format!("{tiny:?} {threads} threads, beside it"));
        }
    }
}

/// Attention sums span by span, so where a token lies decides what is summed first, and with which others its weight is rounded
/// to 2^-14 of the largest one.
#[test]
fn a_gap_in_the_slots_changes_no_more_than_rounding() {
    for tiny in models().filter(|tiny| tiny.dtype == DType::F32) {
        let (tokens, strangers) = (random_tokens(9, 60), random_tokens(10, 21));
        let whole = logits(&mut tiny.open(1), &mut Sequence::new(0..6), &tokens, 20);
        let mut backend = tiny.open(2);
        let mut sequence = Sequence::new(0..6);
        let mut found = logits(&mut backend, &mut sequence, &tokens[..20], 20);
        logits(&mut backend, &mut sequence, &strangers, 21);
        sequence.remove(20..41);
        sequence.next_position = 20;
        found.extend(logits(&mut backend, &mut sequence, &tokens[20..], 20));
        assert_same_bits(&whole[..20], &found[..20], &format!("{tiny:?} before the gap"));
        let distance = distance(&whole[20..], &found[20..]);
        assert!(distance < 0.01, "{tiny:?}: {distance} apart");
    }
}

#[test]
fn a_batch_of_strangers_changes_no_bit() {
    for tiny in models() {
        let mut random = SplitMix64(11);
        let prompts: Vec<Vec<u32>> = (0..32)
            .map(|_| {
                let n = 1 + (random.next() % 14) as usize;
                tokens_of(&mut random, n)
            })
            .collect();
        let mut alone = tiny.open(1);
        let hyper = Hyperparameters::from_gguf(&tiny.gguf()).unwrap();
        adapter(&mut alone, &hyper, 1);
        let sequence = |i: usize| {
            let sequence = Sequence::new([i as u32 * 2, i as u32 * 2 + 1]);
            if i.is_multiple_of(3) { sequence.with_adapter(1) } else { sequence }
        };
        let mut expected = Vec::new();
        for (index, prompt) in prompts.iter().enumerate() {
            let mut rows = logits(&mut alone, &mut sequence(index), prompt, 64);
            expected.push(rows.pop().unwrap());
        }
        for threads in [1, 2] {
            let mut together = tiny.open(threads);
            adapter(&mut together, &hyper, 1);
            let mut sequences: Vec<_> = (0..32).map(sequence).collect();
            // First a batch of prompts without their last token (some then have nothing yet), then one of
            // last tokens.
            let mut batch = Batch::default();
            for (sequence, prompt) in sequences.iter_mut().zip(&prompts).filter(|(_, p)| p.len() > 1) {
                sequence.push(&mut batch, &prompt[..prompt.len() - 1]);
            }
            assert_eq!(run(&mut together, &batch), []);
            batch.clear();
            for (sequence, prompt) in sequences.iter_mut().zip(&prompts) {
                let rows = sequence.push(&mut batch, &prompt[prompt.len() - 1..]);
                ask(&mut batch, rows, &OutputKind::Logits);
            }
            let found: Vec<_> = run(&mut together, &batch).into_iter().map(into_logits).collect();
            assert_same_bits(&expected, &found, &format!("{tiny:?} {threads} threads, 32 strangers"));
        }
    }
}

#[test]
fn an_adapter_acts_like_merged_weights_and_only_where_asked() {
    for architecture in decoders() {
        let tiny = Tiny::new(architecture, DType::F32);
        let gguf = tiny.gguf();
        let (hyper, weights) = (Hyperparameters::from_gguf(&gguf).unwrap(), Weights::from_gguf(&gguf));
        let mut backend = open(&gguf, 2);
        let matrices = adapter(&mut backend, &hyper, 4);
        let tokens = random_tokens(9, 40);
        let plain = logits(&mut backend, &mut Sequence::new(0..3), &tokens, 40);
        let adapted = logits(&mut backend, &mut Sequence::new(3..6).with_adapter(4), &tokens, 40);
        let stepwise = logits(&mut backend, &mut Sequence::new(6..9).with_adapter(4), &tokens, 3);
        assert_same_bits(&adapted, &stepwise, "adapted, in chunks");
        let mut naive = common::naive::Naive::new(hyper, &weights);
        matrices.iter().for_each(|m| naive.merge(m));
        let positions: Vec<u32> = (0..40).collect();
        let merged = naive.logits(&tokens, &positions, |_, _| true);
        assert!(distance(&merged, &adapted) < 0.02, "{}", distance(&merged, &adapted));
        assert!(distance(&plain, &adapted) > 0.2, "the adapter matters");
        // Both kinds in one batch.
        let mut batch = Batch::default();
        for sequence in [Sequence::new(10..13), Sequence::new(13..16).with_adapter(4)] {
            let rows = sequence.clone().push(&mut batch, &tokens);
            ask(&mut batch, rows, &OutputKind::Logits);
        }
        let found: Vec<_> = run(&mut backend, &batch).into_iter().map(into_logits).collect();
        assert_same_bits(&plain, &found[..40], "plain beside adapted");
        assert_same_bits(&adapted, &found[40..], "adapted beside plain");
    }
}

#[test]
fn adapters_that_do_not_fit_are_refused_whole() {
    let mut backend = Tiny::new(architecture("llama"), DType::F32).open(1);
    let good = LoraMatrix {
        tensor: "blk.0.attn_q.weight".into(),
        rank: 2,
        a: vec![0.0; 2 * HIDDEN],
        b: vec![0.0; 2 * HEADS * HEAD_DIM],
        scale: 1.0,
    };
    let refused = |backend: &mut CpuBackend, bad: LoraMatrix| {
        backend.load_adapter(AdapterId(1), vec![good.clone(), bad]).unwrap_err().to_string()
    };
    let error = refused(&mut backend, LoraMatrix { tensor: "blk.9.attn_q.weight".into(), ..good.clone() });
    assert!(error.contains("blk.9.attn_q.weight"), "{error}");
    refused(&mut backend, LoraMatrix { tensor: "token_embd.weight".into(), ..good.clone() });
    let other = LoraMatrix { tensor: "blk.1.attn_q.weight".into(), ..good.clone() };
    refused(&mut backend, LoraMatrix { rank: 0, ..other.clone() });
    refused(&mut backend, LoraMatrix { rank: 3, ..other.clone() });
    refused(&mut backend, LoraMatrix { b: vec![0.0; 5], ..other.clone() });
    refused(&mut backend, LoraMatrix { scale: f32::NAN, ..other });
    refused(&mut backend, good.clone());
    let mut batch = Batch::default();
    Sequence::new([0]).with_adapter(1).push(&mut batch, &[1]);
    let mut output = backend::Output::default();
    let error = backend.run(&batch, &mut output).unwrap_err().to_string();
    assert!(error.contains("adapter 1"), "{error}");
    backend.load_adapter(AdapterId(1), vec![good]).unwrap();
    backend.run(&batch, &mut output).unwrap();
    backend.unload_adapter(AdapterId(1));
    backend.unload_adapter(AdapterId(1));
    assert!(backend.run(&batch, &mut output).is_err());
}

#[test]
fn pages_can_be_copied_and_moved_between_backends() {
    let tiny = Tiny::new(architecture("mistral"), DType::Q8_0);
    let mut backend = tiny.open(2);
    let (head, tail) = (random_tokens(1, 37), random_tokens(2, 9));
    let mut original = Sequence::new([0, 1, 2]);
    logits(&mut backend, &mut original, &head, 37);
    let mut copied = original.clone();
    let copies: Vec<_> = [(0, 50), (1, 51), (50, 60), (2, 52)]
        .map(|(from, to)| PageCopy { from: PageId(from), to: PageId(to) })
        .into();
    backend.copy_pages(&copies).unwrap();
    [60, 51, 52].iter().zip(&mut copied.pages).for_each(|(id, page)| page.page = PageId(*id));
    let mut moved = original.clone();
    let mut other = tiny.open(1);
    for (index, page) in moved.pages.iter_mut().enumerate() {
        let mut bytes = vec![9];
        backend.read_page(page.page, &mut bytes).unwrap();
        assert_eq!(bytes.len(), 1 + backend.limits().page_bytes);
        page.page = PageId(100 + index as u32);
        other.write_page(page.page, &bytes[1..]).unwrap();
        assert!(other.write_page(page.page, &bytes).is_err());
        let mut again = Vec::new();
        other.read_page(page.page, &mut again).unwrap();
        assert_eq!(again, bytes[1..]);
    }
    let expected = logits(&mut backend, &mut original, &tail, 9);
    assert_same_bits(&expected, &logits(&mut backend, &mut copied, &tail, 9), "copied pages");
    assert_same_bits(&expected, &logits(&mut other, &mut moved, &tail, 9), "moved pages");
    let far = PageId(backend.limits().pages);
    assert!(backend.read_page(far, &mut Vec::new()).is_err());
    assert!(backend.write_page(far, &[]).is_err());
    assert!(backend.copy_pages(&[PageCopy { from: PageId(0), to: far }]).is_err());
    assert!(backend.copy_pages(&[PageCopy { from: far, to: PageId(0) }]).is_err());
}

#[test]
fn only_live_slots_matter() {
    // Slots left over from another sequence, not live: the result is as in fresh pages.
    let mut backend = Tiny::new(architecture("llama"), DType::F32).open(1);
    let tokens = random_tokens(2, 20);
    let fresh = logits(&mut backend, &mut Sequence::new([0, 1]), &tokens, 20);
    logits(&mut backend, &mut Sequence::new([2, 3]), &random_tokens(4, 32), 32);
    let reused = logits(&mut backend, &mut Sequence::new([2, 3]), &tokens, 20);
    assert_same_bits(&fresh, &reused, "reused pages");
    // Whole pages without live slots in between change nothing either.
    let mut with_hole = Sequence::new([4, 5, 6]);
    with_hole.next_slot = 16;
    let shifted = logits(&mut backend, &mut with_hole, &tokens, 20);
    assert_same_bits(&fresh, &shifted, "an empty page in front");
}

#[test]
fn options_out_of_range_are_refused_with_the_way_out() {
    use backend_cpu::{CpuOptions, OpenError};
    let gguf = Tiny::new(architecture("llama"), DType::F32).gguf();
    let (hyper, weights) = (Hyperparameters::from_gguf(&gguf).unwrap(), Weights::from_gguf(&gguf));
    let refused = |options: CpuOptions| CpuBackend::open(&hyper, &weights, &options, |_| ()).err().unwrap();
    let fine = CpuOptions { threads: 1, ..CpuOptions::default() };
    let error = refused(CpuOptions { threads: 0, ..fine.clone() });
    assert_eq!(error.to_string(), "threads is 0, it has to be from 1 to 1024");
    assert!(matches!(
        refused(CpuOptions { page_tokens: 12, ..fine.clone() }),
        OpenError::PageTokens { found: 12 }
    ));
    assert!(matches!(
        refused(CpuOptions { pages: u32::MAX, page_tokens: 64, ..fine.clone() }),
        OpenError::Pool { .. }
    ));
    let mut seen = Vec::new();
    let backend = CpuBackend::open(&hyper, &weights, &fine, |p| seen.push(p)).unwrap();
    assert!(
        seen.is_sorted_by_key(|p| p.done) && seen.last().is_some_and(|p| p.done == p.total && p.total > 0)
    );
    assert_eq!(CpuBackend::page_bytes(&hyper, KvType::I16, 16), backend.limits().page_bytes);
    let (layers, output) = backend.weight_bytes();
    assert!((layers + output) as u64 >= weights.bytes());
}
