//! Speed of attention over pages on one thread: GFLOP/s (two products per slot and number of the head
//! dimension) and GB/s of keys and values, best of many rounds. `cargo bench -p kernels --bench attention`.

#![allow(clippy::print_stdout, reason = "a benchmark reports to its user")]

use kernels::attention::{Attention, Heads, page_len, write_kv};
use kernels::{Isa, Tile, TileMut, f16};
use std::time::Instant;

const PAGE_TOKENS: usize = 16;
const PAGES: usize = 64;

fn main() {
    let isa = Isa::detect();
    println!("{isa}, {} tokens of context, one key-value head", PAGES * PAGE_TOKENS);
    println!("{:>8} {:>6} {:>5} {:>10} {:>8}", "head dim", "heads", "rows", "GFLOP/s", "GB/s");
    for (head_dim, heads, rows) in
        [(64, 3, 1), (64, 7, 1), (128, 4, 1), (64, 3, 16), (64, 3, 128), (128, 4, 64)]
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
        let masks = vec![u64::MAX >> (64 - PAGE_TOKENS); rows];
        let mut out = vec![0.0; rows * width];
        let mut attention = Attention::default();
        let (begun, mut best) = (Instant::now(), f64::INFINITY);
        while begun.elapsed().as_millis() < 300 {
            let start = Instant::now();
            attention.start(rows, Heads { heads, head_dim, scale: 0.125, cap: None }, PAGE_TOKENS);
            for page in &pages {
                attention.attend_page(isa, &Tile::from_slice(&queries, width), &masks, page);
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
