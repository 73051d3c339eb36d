//! Models whose next token a test decides.

use std::cell::OnceCell;
use std::fmt::{Debug, Formatter};
use std::sync::Arc;

use llguidance::ParserFactory;
use toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use super::api::model::{ChatOptions, EmbeddingFacts, Message, ModelFacts, Pooling};

/// Values of an embedding row and a hidden row.
pub(crate) const HIDDEN: usize = 4;
/// The control tokens, after the 256 bytes.
const START: u32 = 256;
const END: u32 = 257;
const CONTROL: [&str; 2] = ["<|start|>", "<|end|>"];
/// Logit of the token that a script says, above those of all others, which are 0.
const SAID: f32 = 20.0;

/// What a test's model does: one token after the text so far.
enum Script {
    /// Pairs of a text and what comes after it.
    Says(Vec<(String, String)>),
    /// Logits from a hash of all that a row attends to.
    Noise(u64),
    /// Logits from the tokens that a row attends to.
    Logits(Logits),
    /// Hidden rows from all tokens of a pass and the number of the row; no logits.
    Rows(Rows),
}

type Logits = Box<dyn Fn(&[u32]) -> Vec<f32>>;
pub(crate) type Rows = Box<dyn Fn(&[u32], usize) -> Vec<f32>>;

/// A model with a vocabulary of bytes, two control tokens and words of one's own.
///
/// Its chat template writes `<|start|>role`, a line break, the content and `<|end|>` for each message; `<|end|>` is its
/// stop token.
pub struct ScriptedModel {
    pub(crate) facts: ModelFacts,
    pub(crate) embedding: EmbeddingFacts,
    pub(crate) words: Vec<Vec<u8>>,
    script: Script,
    /// Its template lets it think.
    thinks: bool,
    parsers: OnceCell<ParserFactory>,
}

impl Debug for ScriptedModel {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "ScriptedModel({})", self.facts.name)
    }
}

impl ScriptedModel {
    /// A model that ends every text at once, until it is told what to [say](ScriptedModel::says).
    pub fn new() -> ScriptedModel {
        let words = (0..=255).map(|byte| vec![byte]).chain(CONTROL.map(|name| name.as_bytes().to_vec()));
        let words: Vec<Vec<u8>> = words.collect();
        let facts = ModelFacts {
            name: "scripted".to_string(),
            architecture: "scripted".to_string(),
            vocabulary_size: words.len() as u32,
            page_tokens: 16,
            context_length: 4096,
            hidden_size: HIDDEN as u32,
            bos: None,
            stop_tokens: vec![END],
            traits: vec!["text".to_string(), "chat".to_string(), "adapter".to_string()],
        };
        ScriptedModel {
            facts,
            embedding: EmbeddingFacts { pooling: Pooling::Last, encoder: false, eos: None },
            words,
            script: Script::Says(Vec::new()),
            thinks: false,
            parsers: OnceCell::new(),
        }
    }

    /// A model that draws by a hash of all that a row attends to: any other token, position or mask anywhere gives
    /// another text.
    pub fn noise(seed: u64) -> ScriptedModel {
        ScriptedModel { script: Script::Noise(seed), ..ScriptedModel::new() }
    }

    /// A model of a function from the tokens that a row attends to, in order, to the logits of all tokens.
    pub fn logits(logits: impl Fn(&[u32]) -> Vec<f32> + 'static) -> ScriptedModel {
        ScriptedModel { script: Script::Logits(Box::new(logits)), ..ScriptedModel::new() }
    }

    /// An encoder, of a function from the tokens of a pass and the number of a row to the four values of the hidden row. It
    /// wants each text between its two control tokens, `<|start|>` and `<|end|>`.
    pub fn encoder(pooling: Pooling, hidden: impl Fn(&[u32], usize) -> Vec<f32> + 'static) -> ScriptedModel {
        let mut model = ScriptedModel::new().pooling(pooling);
        (model.embedding.encoder, model.embedding.eos) = (true, Some(END));
        model.facts.bos = Some(START);
        model.facts.traits = vec!["encoder".to_string(), "adapter".to_string()];
        ScriptedModel { script: Script::Rows(Box::new(hidden)), ..model }
    }

    /// Its rows are pooled so; those of a model that generates by the last one, unless it is told.
    pub fn pooling(mut self, pooling: Pooling) -> ScriptedModel {
        self.embedding.pooling = pooling;
        self
    }

    /// The hidden rows of an encoder.
    pub(crate) fn rows(&self) -> Option<&Rows> {
        match &self.script {
            Script::Rows(rows) => Some(rows),
            _ => None,
        }
    }

    /// After this prompt, where it came last, it says that, and ends. A prompt is any part of the text, such as the
    /// question of a message.
    pub fn says(mut self, prompt: &str, answer: &str) -> ScriptedModel {
        let pair = (prompt.to_string(), answer.to_string());
        match &mut self.script {
            Script::Says(pairs) => pairs.push(pair),
            Script::Noise(_) | Script::Logits(_) | Script::Rows(_) => self.script = Script::Says(vec![pair]),
        }
        self
    }

    /// Further tokens of several bytes each. The tokenizer takes the longest that fits.
    pub fn words(mut self, words: &[&str]) -> ScriptedModel {
        self.words.extend(words.iter().map(|word| word.as_bytes().to_vec()));
        self.facts.vocabulary_size = self.words.len() as u32;
        self
    }

    /// Its template writes `<think></think>` behind the header of an answer where the variable `enable_thinking` is
    /// false.
    pub fn thinking(self) -> ScriptedModel {
        ScriptedModel { thinks: true, ..self }
    }

    /// The name it is opened under; `scripted` if not set.
    pub fn name(mut self, name: &str) -> ScriptedModel {
        self.facts.name = name.to_string();
        self
    }

    /// Positions are below this; 4096 if not set.
    pub fn context_length(mut self, context_length: u32) -> ScriptedModel {
        self.facts.context_length = context_length;
        self
    }

    pub(crate) fn tokenize(&self, text: &str, special: bool) -> Vec<u32> {
        let (mut rest, mut tokens) = (text.as_bytes(), Vec::new());
        while !rest.is_empty() {
            let is_control = |token: u32| token == START || token == END;
            let fits = |(word, token): &(&Vec<u8>, u32)| {
                rest.starts_with(word) && !word.is_empty() && (special || !is_control(*token))
            };
            let (word, token) = self
                .words
                .iter()
                .zip(0..)
                .filter(fits)
                .max_by_key(|(word, _)| word.len())
                .expect("a byte fits");
            tokens.push(token);
            rest = &rest[word.len()..];
        }
        tokens
    }

    pub(crate) fn encode_chat(&self, messages: &[Message], options: &ChatOptions) -> Vec<u32> {
        let mut tokens = Vec::new();
        let header = |role: &str| [vec![START], self.tokenize(&format!("{role}\n"), false)].concat();
        if let Some(tools) = &options.tools {
            tokens.extend(header("tools"));
            tokens.extend(self.tokenize(tools, false));
            tokens.push(END);
        }
        for (index, message) in messages.iter().enumerate() {
            tokens.extend(header(&message.role));
            if let Some(reasoning) = &message.reasoning_content {
                tokens.extend(self.tokenize(&format!("<think>{reasoning}</think>"), false));
            }
            tokens.extend(self.tokenize(&message.content, message.trusted));
            tokens.extend(message.tool_calls.iter().flat_map(|calls| self.tokenize(calls, false)));
            if !options.continue_final_message || index + 1 < messages.len() {
                tokens.push(END);
            }
        }
        if options.add_generation_prompt {
            tokens.extend(header("assistant"));
            let variables = options.variables.as_deref().unwrap_or("null");
            let variables: crate::Value = serde_json::from_str(variables).expect("variables are JSON");
            if self.thinks && variables["enable_thinking"] == false {
                tokens.extend(self.tokenize("<think></think>", false));
            }
        }
        tokens
    }

    pub(crate) fn parsers(&self) -> &ParserFactory {
        self.parsers.get_or_init(|| {
            let mut info = TokRxInfo::new(self.words.len() as u32, END);
            info.tok_bos = None;
            let word = |(word, token): (&Vec<u8>, u32)| match token {
                START | END => [&[TokTrie::SPECIAL_TOKEN_MARKER][..], word].concat(),
                _ => word.clone(),
            };
            let words: Vec<Vec<u8>> = self.words.iter().zip(0..).map(word).collect();
            let environment: TokEnv = Arc::new(Vocabulary { trie: TokTrie::from(&info, &words) });
            let mut factory = ParserFactory::new_simple(&environment).expect("the vocabulary is complete");
            factory.quiet();
            factory
        })
    }
}

impl Default for ScriptedModel {
    fn default() -> ScriptedModel {
        ScriptedModel::new()
    }
}

struct Vocabulary {
    trie: TokTrie,
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.greedy_tokenize(bytes)
    }
}

/// A computed token of a context.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub token: u32,
    pub position: u32,
    /// Of the token, its position, the adapter, and all that it attended to.
    digest: u64,
}

impl Slot {
    pub fn new(token: u32, position: u32, adapter: Option<&str>, seen: &[Slot]) -> Slot {
        let adapter =
            adapter.into_iter().flat_map(str::bytes).fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
        let own = mix(adapter ^ u64::from(token) << 32 ^ u64::from(position));
        let digest = seen.iter().fold(own, |digest, slot| mix(digest.rotate_left(5) ^ slot.digest));
        Slot { token, position, digest }
    }
}

/// A row of a pass: what it attends to, itself at the end.
pub(crate) struct Row<'a> {
    pub model: &'a ScriptedModel,
    pub seen: &'a [Slot],
}

impl Row<'_> {
    fn last(&self) -> &Slot {
        self.seen.last().expect("a row attends to itself")
    }

    pub fn position(&self) -> u32 {
        self.last().position
    }

    pub fn hidden(&self) -> Vec<f32> {
        (0..HIDDEN as u64).map(|index| (mix(self.last().digest ^ index) >> 56) as f32).collect()
    }

    pub fn logits(&self) -> Vec<f32> {
        let size = self.model.words.len();
        match &self.model.script {
            Script::Noise(seed) => {
                let digest = mix(self.last().digest ^ seed);
                (0..size as u64).map(|token| (mix(digest ^ token) >> 40) as f32 / 2e6).collect()
            }
            Script::Logits(logits) => {
                let tokens: Vec<u32> = self.seen.iter().map(|slot| slot.token).collect();
                let logits = logits(&tokens);
                assert_eq!(logits.len(), size, "one logit for each token of the vocabulary");
                logits
            }
            Script::Rows(_) => unreachable!("passes of an encoder have no logits"),
            Script::Says(pairs) => {
                let said: Vec<u8> =
                    self.seen.iter().flat_map(|slot| self.model.words[slot.token as usize].clone()).collect();
                let mut logits = vec![0.0; size];
                logits[self.said_next(pairs, &said) as usize] = SAID;
                logits
            }
        }
    }

    /// The next token of the answer to the prompt that came last.
    fn said_next(&self, pairs: &[(String, String)], text: &[u8]) -> u32 {
        let find = |prompt: &str| {
            let starts = (0..=text.len().saturating_sub(prompt.len())).rev();
            starts
                .into_iter()
                .find(|at| text[*at..].starts_with(prompt.as_bytes()))
                .map(|at| at + prompt.len())
        };
        let asked = pairs.iter().filter_map(|(prompt, answer)| Some((find(prompt)?, answer.as_bytes())));
        let Some((end, answer)) = asked.max_by_key(|(end, _)| *end) else { return END };
        // The answer begins at the end of the text, or somewhere behind the prompt.
        let begun = (end..=text.len()).find(|at| answer.starts_with(&text[*at..]));
        let rest = &answer[text.len() - begun.unwrap_or(text.len())..];
        let is_word = |(word, token): &(&Vec<u8>, u32)| {
            rest.starts_with(word) && !word.is_empty() && *token != START && *token != END
        };
        let words = self.model.words.iter().zip(0..).filter(is_word);
        words.max_by_key(|(word, _)| word.len()).map_or(END, |(_, token)| token)
    }
}

/// The finalizer of splitmix64.
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
