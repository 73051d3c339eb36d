//! `multi_turn`: made-up conversations. Each turn is sent with the real answers to the turns before it.

use fastrand::Rng;

use super::tokens::Tokens;
use super::{Dataset, DatasetError, DatasetOptions, Message, Prompt, Sample, Spec, random, text};
use crate::clock::Nanos;
use crate::draw;

/// Made-up conversations.
pub const SPEC: Spec = Spec {
    name: "multi_turn",
    about: "made-up conversations; --num-prompts counts turns, --multi-turn-turns those of a conversation",
    reads_file: false,
    load,
};

fn load(options: &DatasetOptions, tokens: &Tokens) -> Result<Dataset, DatasetError> {
    let mut rng = Rng::with_seed(options.seed);
    let how = &options.multi_turn;
    let system = text::make(&mut rng, tokens, how.system_tokens)?;
    let mut samples = Vec::with_capacity(options.count);
    let mut session = 0;
    while samples.len() < options.count {
        let turns = draw::normal(&mut rng, how.turns.0, how.turns.1).round().max(1.0) as u32;
        for turn in 0..turns.min((options.count - samples.len()) as u32) {
            let input = random::length(&mut rng, options.input_tokens, options.range_ratio);
            let output = random::length(&mut rng, options.output_tokens.unwrap_or(128), options.range_ratio);
            let mut messages = Vec::new();
            let mut count = input;
            if turn == 0 && how.system_tokens > 0 {
                messages.push(Message::system(system.as_str()));
                count += how.system_tokens;
            }
            messages.push(Message::user(text::make(&mut rng, tokens, input)?));
            let mut sample = Sample::new(Prompt::Chat(messages), count, output);
            sample.session = Some(session);
            sample.turn = turn;
            if turn > 0 && how.think_secs > 0.0 {
                sample.think = Nanos::from_secs(draw::exponential(&mut rng, how.think_secs));
            }
            samples.push(sample);
        }
        session += 1;
    }
    Ok(Dataset { samples, notes: Vec::new() })
}
