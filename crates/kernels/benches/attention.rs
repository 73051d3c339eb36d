//! Speed of attention over pages on one thread: GFLOP/s (two products per slot and number of the head
//! dimension) and GB/s of keys and values, best of many rounds. `cargo bench -p kernels --bench attention`.

#![allow(clippy::print_stdout, reason = "a benchmark reports to its user")]

use kernels::attention::{Attention, Heads, SPAN_TOKENS_MAX, SPLIT_SPANS, page_len, span_pages, write_kv};
use kernels::{Isa, Tile, TileMut, f16};
use std::time::Instant;

const PAGE_TOKENS: usize = 16;
const PAGES: usize = 64;

fn main() {
    for isa in Isa::available() {
        if isa != Isa::SCALAR {
            measure(isa);
            from_memory(isa);
        }
    }
}

fn measure(isa: Isa) {
    println!("{isa}, {} tokens of context, one key-value head", PAGES * PAGE_TOKENS);
    println!("{:>8} {:>6} {:>5} {:>10} {:>8}", "head dim", "heads", "rows", "GFLOP/s", "GB/s");
    for (head_dim, heads, rows) in
        [(64, 3, 1), (64, 7, 1), (128, 4, 1), (64, 3, 16), (64, 3, 128), (128, 4, 64), (64, 1, 16)]
    {
        let page = vec![f16::ZERO; page_len(head_dim, PAGE_TOKENS)];
        let mut pages = vec![page; PAGES];
        for (i, page) in pages.iter_mut().enumerate() {
            for slot in 0..PAGE_TOKENS {
                let number = |j: usize| ((i * 31 + slot * 7 + j) % 13) as f32 / 13.0 - 0.5;
                let key: Vec<f32> = (0..head_dim).map(number).collect();
                write_kv(page, PAGE_TOKENS, slot, &key, &key);
            }
        }
        let width = heads * head_dim;
        let queries: Vec<f32> = (0..rows * width).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
        let masks = vec![u64::MAX; rows];
        let mut out = vec![0.0; rows * width];
        let mut attention = Attention::default();
        let (begun, mut best) = (Instant::now(), f64::INFINITY);
        while begun.elapsed().as_millis() < 300 {
            let start = Instant::now();
            attention.start(rows, Heads { heads, head_dim, scale: 0.125, cap: None }, PAGE_TOKENS);
            for (index, pages) in pages.chunks(span_pages(PAGE_TOKENS)).enumerate() {
                if index > 0 && index.is_multiple_of(SPLIT_SPANS) {
                    attention.end_split(isa);
                }
                let mut span = [pages[0].as_slice(); SPAN_TOKENS_MAX / PAGE_TOKENS];
                for (to, page) in span.iter_mut().zip(pages) {
                    *to = page;
                }
                attention.attend_span(
                    isa,
                    &Tile::from_slice(&queries, width),
                    &masks,
                    &span[..pages.len()],
                    &[],
                );
            }
            attention.finish(isa, &mut TileMut::from_slice(&mut out, width));
            best = best.min(start.elapsed().as_secs_f64());
        }
        assert!(out.iter().all(|value| value.is_finite()), "attention of finite values is finite");
        let slots = (rows * heads * PAGES * PAGE_TOKENS) as f64;
        let bytes = (PAGES * page_len(head_dim, PAGE_TOKENS) * 2) as f64;
        let flops = 4.0 * slots * head_dim as f64;
        println!(
            "{head_dim:>8} {heads:>6} {rows:>5} {:>10.1} {:>8.1}",
            flops / best / 1e9,
            bytes / best / 1e9
        );
    }
}

/// Decoding of many sequences whose pages lie all over memory larger than the caches, as they do in a pool: two
/// threads, GB/s of keys and values together.
fn from_memory(isa: Isa) {
    let (head_dim, heads, threads, pages) = (64, 3, 2, 16 << 10);
    let len = page_len(head_dim, PAGE_TOKENS);
    let pools: Vec<Vec<f16>> = (0..threads).map(|_| vec![f16::from_f32(0.25); pages * len]).collect();
    let queries: Vec<f32> = (0..heads * head_dim).map(|i| (i % 17) as f32 / 17.0 - 0.5).collect();
    // Neighbours in a sequence are 90 rows of the pool apart: 30 layers of 3 key-value heads.
    let order: Vec<usize> = (0..90).flat_map(|first| (first..pages).step_by(90)).collect();
    let mut best = f64::INFINITY;
    for _ in 0..10 {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for pool in &pools {
                let (order, queries) = (&order, &queries);
                scope.spawn(move || {
                    let mut attention = Attention::default();
                    let mut out = vec![0.0; heads * head_dim];
                    let page = |index: usize| &pool[order[index] * len..][..len];
                    for first in (0..pages).step_by(32) {
                        attention.start(1, Heads { heads, head_dim, scale: 0.125, cap: None }, PAGE_TOKENS);
                        for span in (first..first + 32).step_by(span_pages(PAGE_TOKENS)) {
                            let end = span + span_pages(PAGE_TOKENS);
                            if span == first + SPLIT_SPANS * span_pages(PAGE_TOKENS) {
                                attention.end_split(isa);
                            }
                            let next: [&[f16]; 4] = std::array::from_fn(|i| page((end + i).min(first + 31)));
                            let of_span: [&[f16]; 4] = std::array::from_fn(|i| page(span + i));
                            attention.attend_span(
                                isa,
                                &Tile::from_slice(queries, queries.len()),
                                &[u64::MAX],
                                &of_span,
                                &next,
                            );
                        }
                        attention.finish(isa, &mut TileMut::from_slice(&mut out, queries.len()));
                    }
                    assert!(out.iter().all(|value| value.is_finite()));
                });
            }
        });
        best = best.min(start.elapsed().as_secs_f64());
    }
    println!("from memory, {threads} threads: {:.1} GB/s", (threads * pages * len * 2) as f64 / best / 1e9);
}
