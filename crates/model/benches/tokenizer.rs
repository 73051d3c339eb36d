//! Speed of a GGUF file's tokenizer: MB/s and tokens of a text of a megabyte, median of 5 rounds, and of a prompt of 8 kB.
//! `cargo bench -p model --bench tokenizer -- MODEL.gguf [TEXT]...`; without texts, this repository's documents.

#![allow(clippy::print_stdout, reason = "a benchmark reports to its user")]

use std::time::Instant;

use model::Tokenizer;
use model::gguf::Gguf;

const MEGABYTE: usize = 1 << 20;
const PROMPT: usize = 8 << 10;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let Some(file) = arguments.next() else {
        println!("give a GGUF file: cargo bench -p model --bench tokenizer -- MODEL.gguf [TEXT]...");
        return;
    };
    let start = Instant::now();
    let tokenizer = Tokenizer::from_gguf(&Gguf::open(file.as_ref()).unwrap()).unwrap();
    println!("{tokenizer:?} loaded in {:?}", start.elapsed());
    let mut texts: Vec<(String, String)> = arguments
        .map(|path| {
            (path.clone(), std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")))
        })
        .collect();
    if texts.is_empty() {
        let documents = include_str!("../../../ARCHITECTURE.md");
        texts.push(("a document".into(), documents.into()));
        texts.push(("code".into(), include_str!("../src/tokenizer/byte_pair.rs").into()));
        texts.push(("digits".into(), "0123456789".into()));
        texts.push(("one word".into(), documents.chars().filter(|c| c.is_ascii_lowercase()).collect()));
        texts.push(("one letter".into(), "a".into()));
    }
    println!("{:<40} {:>9} {:>8} {:>15}", "text", "tokens", "MB/s", "8 kB, ms");
    for (name, text) in texts {
        let long = cut(&text.repeat(MEGABYTE.div_ceil(text.len())), MEGABYTE).to_owned();
        let median = |text: &str| {
            let mut times: Vec<f64> = (0..5)
                .map(|_| {
                    let start = Instant::now();
                    let tokens = tokenizer.encode(text).unwrap();
                    let time = start.elapsed().as_secs_f64();
                    assert_eq!(tokenizer.decode(&tokens), text.as_bytes(), "{name}: the text comes back");
                    time
                })
                .collect();
            times.sort_by(f64::total_cmp);
            times[2]
        };
        let (tokens, time) = (tokenizer.encode(&long).unwrap().len(), median(&long));
        let prompt = median(cut(&long, PROMPT));
        println!("{name:<40} {tokens:>9} {:>8.1} {:>15.2}", long.len() as f64 / time / 1e6, prompt * 1e3);
    }
}

/// The start of a text, a character not cut.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
