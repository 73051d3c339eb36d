//! `sharegpt`: conversations as people share them, `[{"id", "conversations": [{"from", "value"}]}]`.
//!
//! Copies of this file are often cut off. It is therefore read element by element, and what is whole is used.

use serde::Deserialize;

use super::rows::read_text;
use super::tokens::Tokens;
use super::{Dataset, DatasetError, DatasetOptions, Message, Prompt, Sample, Spec};

/// Shared conversations.
pub const SPEC: Spec = Spec {
    name: "sharegpt",
    about: "the first question of each conversation of a ShareGPT file; files that end early are used as far as they go",
    reads_file: true,
    load,
};

#[derive(Deserialize)]
struct Conversation {
    #[serde(default)]
    id: serde_json::Value,
    #[serde(default, alias = "conversation")]
    conversations: Vec<Turn>,
}

#[derive(Deserialize)]
struct Turn {
    from: String,
    value: String,
}

/// Conversations as lists of (who, what), and how many bytes at the end are no whole conversation.
pub struct Conversations {
    /// The conversations that are whole.
    pub list: Vec<Vec<(String, String)>>,
    /// Their `id`, for each of `list`; null without one.
    pub ids: Vec<serde_json::Value>,
    /// Bytes after the last whole one.
    pub bytes_cut: usize,
}

/// Reads the conversations of a file.
///
/// # Errors
/// [`DatasetError::Read`], and [`DatasetError::Malformed`] for a file whose beginning is no such list.
pub fn read(path: &std::path::Path) -> Result<Conversations, DatasetError> {
    let text = read_text(path)?;
    let malformed = |found: String| DatasetError::Malformed {
        path: path.into(),
        place: "line 1".into(),
        found,
        expected: "a list of objects with `conversations`".into(),
    };
    let mut rest = text.trim_start();
    rest = rest.strip_prefix('[').ok_or_else(|| malformed(super::rows::excerpt(rest)))?;
    let (mut list, mut ids) = (Vec::new(), Vec::new());
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n', ',']);
        if rest.is_empty() || rest.starts_with(']') {
            let whole = rest.starts_with(']');
            return Ok(Conversations { list, ids, bytes_cut: usize::from(!whole) });
        }
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<Conversation>();
        match stream.next() {
            Some(Ok(conversation)) => {
                ids.push(conversation.id);
                let turns = conversation.conversations.into_iter();
                list.push(turns.map(|turn| (turn.from, turn.value)).collect());
                let offset = stream.byte_offset();
                rest = &rest[offset..];
            }
            Some(Err(error)) if error.is_eof() => {
                return Ok(Conversations { list, ids, bytes_cut: rest.len() });
            }
            Some(Err(error)) => return Err(malformed(format!("{error} in conversation {}", list.len()))),
            None => return Ok(Conversations { list, ids, bytes_cut: rest.len() }),
        }
    }
}

/// Whether a turn is the user's: the words of the copies in use.
pub fn is_user(from: &str) -> bool {
    matches!(from, "human" | "user")
}

fn load(options: &DatasetOptions, tokens: &Tokens) -> Result<Dataset, DatasetError> {
    let path = options.path.as_deref().ok_or(DatasetError::NoPath(SPEC.name))?;
    let conversations = read(path)?;
    let mut samples = Vec::new();
    let mut order: Vec<usize> = (0..conversations.list.len()).collect();
    if options.shuffle {
        fastrand::Rng::with_seed(options.seed).shuffle(&mut order);
    }
    let mut unfit = 0;
    for index in order {
        if samples.len() == options.count {
            break;
        }
        let [(from, question), (_, answer), ..] = &conversations.list[index][..] else {
            unfit += 1;
            continue;
        };
        let (input, output) = (tokens.count(question)?, tokens.count(answer)?);
        // The bounds that the tools of vLLM and SGLang have had for this file from their beginning.
        if !is_user(from)
            || input < 4
            || (options.output_tokens.is_none() && output < 4)
            || input > 1024
            || input + options.output_tokens.unwrap_or(output) > 2048
        {
            unfit += 1;
            continue;
        }
        let prompt = Prompt::Chat(vec![Message::user(question.as_str())]);
        let mut sample = Sample::new(prompt, input, options.output_tokens.unwrap_or(output));
        sample.reply = Some(answer.clone());
        samples.push(sample);
    }
    let options = DatasetOptions { shuffle: false, ..options.clone() };
    let why = format!("{unfit} conversations are without an answer, too short or too long");
    let mut dataset = super::finish(samples, &options, || DatasetError::NoSample { path: path.into(), why })?;
    if conversations.bytes_cut > 0 {
        let whole = conversations.list.len();
        dataset.notes.push(format!("the file ends within a conversation: {whole} whole ones before it"));
    }
    Ok(dataset)
}
