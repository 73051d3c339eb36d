//! Flags of `vllm bench serve` that have no meaning here: each is known by name and refused with its reason, so that a
//! script does not run without what it asked for.

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

/// The flags of a reason.
type Reason = (&'static str, &'static [&'static str]);

const REFUSED: [Reason; 6] = [
    (
        "datasets of a hub are not read: write the prompts as JSON lines, and name the file with --dataset-name custom --dataset-path",
        &[
            "hf-subset",
            "hf-split",
            "hf-name",
            "hf-output-len",
            "blazedit-min-distance",
            "blazedit-max-distance",
        ],
    ),
    (
        "requests are of text: images, sound and video are not sent",
        &[
            "enable-multimodal-chat",
            "random-mm-base-items-per-request",
            "random-mm-num-mm-items-range-ratio",
            "random-mm-limit-mm-per-prompt",
            "random-mm-bucket-config",
            "asr-max-audio-len-sec",
            "asr-min-audio-len-sec",
        ],
    ),
    (
        "embeddings and reranking are not measured: they have no tokens to time",
        &["random-batch-size", "no-reranker"],
    ),
    (
        "the dataset SPEED-Bench is not read: write its prompts as JSON lines for --dataset-name custom",
        &["speed-bench-dataset-subset", "speed-bench-output-len", "speed-bench-category"],
    ),
    (
        "columns of a trace are found by their names; --column names others for --dataset-name custom",
        &[
            "timed-trace-timestamp-label",
            "timed-trace-input-length-label",
            "timed-trace-output-length-label",
            "timed-trace-hash-ids-label",
        ],
    ),
    (
        "a probe beside the load is a second run: start another `pie-bench serve` with --request-rate and --output-len 1",
        &["probe-request-rate"],
    ),
];

/// None of the refused flags.
#[derive(Clone, Copy, Debug)]
pub struct Refused;

impl FromArgMatches for Refused {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        for (reason, names) in &REFUSED {
            if let Some(name) = names.iter().find(|name| matches.contains_id(name)) {
                let message = format!("--{name} is not taken: {reason}\n");
                return Err(clap::Error::raw(ErrorKind::UnknownArgument, message));
            }
        }
        Ok(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Refused {
    fn augment_args(command: Command) -> Command {
        let flags = REFUSED.iter().flat_map(|(reason, names)| names.iter().map(move |name| (*name, *reason)));
        flags.fold(command, |command, (name, reason)| {
            // With a value or without, so that the reason is said either way.
            command.arg(Arg::new(name).long(name).num_args(0..=1).hide(true).help(reason))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
