//! Text to token ids and back.
//!
//! Splitting and merging is done by the `tokenizers` library, whose `Tokenizer` is built from a tokenizer.json, or the
//! files of before it; for GGUF files by [`byte_pair`], which is several times faster and can be stopped at any point, and
//! by [`sentence_piece`] where there are scores, which the library cannot follow in all cases; Gemma 4 and BERT are left to
//! the library. The way back is our own: a table of the bytes of every token, which constrained decoding needs anyway, and
//! which makes streaming a matter of appending bytes.
//!
//! Texts are taken as they are. A tokenizer.json may compose characters first (Qwen's wants NFC); a GGUF file
//! says nothing of it, llama.cpp does not do it, and neither does a tokenizer that is made from one. Only BERT's changes a
//! text, so that the way back is not the same text.

mod byte_pair;
mod bytes;
mod error;
mod gguf;
mod json;
mod names;
mod pre;
mod sentence_piece;
mod word_piece;

mod stop;
mod vocab;

use std::sync::OnceLock;

use byte_pair::BytePair;
use bytes::TokenTable;
pub(crate) use bytes::byte_level_char;
pub use error::TokenizerError;
use names::NamedToken;
pub(crate) use names::TokenNames;
use sentence_piece::SentencePiece;
use tokenizers::{OffsetType, PreTokenizer as _, PreTokenizerWrapper};

/// Whether the result of long work is still wanted, such as the tokens of a text: asked again and again meanwhile.
pub type Wanted<'a> = &'a dyn Fn() -> bool;

/// What kind of token an id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// A piece of text.
    Text,
    /// A token with a meaning for the model, such as `<|im_end|>`; never comes from plain text.
    Control,
    /// A row without meaning, there to fill the vocabulary.
    Unused,
}

/// A model's tokenizer. Encoding takes `&self` and may run on any thread.
pub struct Tokenizer {
    splitter: Splitter,
    table: TokenTable,
    /// Names of control tokens. One of a single character is left out: it cannot be told from text.
    control: TokenNames,
    special: SpecialTokens,
    /// Whether encoding puts a space before the text, so that decoding takes one away.
    space_prefix: bool,
}

/// What finds the tokens of a text.
enum Splitter {
    Library {
        /// Finds control tokens in text.
        parsing: Box<tokenizers::Tokenizer>,
        /// Takes control tokens as text. A copy, because the library has the choice as a setting of the
        /// tokenizer; made when first needed, as it takes some ten megabytes.
        plain: Box<OnceLock<tokenizers::Tokenizer>>,
    },
    BytePair(Box<BytePair>),
    SentencePiece(Box<SentencePiece>),
}

impl Splitter {
    fn library(parsing: tokenizers::Tokenizer) -> Self {
        Self::Library { parsing: Box::new(parsing), plain: Box::default() }
    }

    fn encode(&self, text: &str, with_control: bool, wanted: Wanted<'_>) -> Result<Vec<u32>, TokenizerError> {
        let tokenizer = match self {
            Self::BytePair(model) => return model.encode(text, with_control, wanted),
            Self::SentencePiece(model) => return model.encode(text, with_control, wanted),
            Self::Library { parsing, .. } if with_control => parsing,
            Self::Library { parsing, plain } => plain.get_or_init(|| {
                let mut plain = tokenizers::Tokenizer::clone(parsing);
                plain.set_encode_special_tokens(true);
                plain
            }),
        };
        // The steps of the library's `encode_fast`, with a question between them.
        let go_on = || if wanted() { Ok(()) } else { Err(TokenizerError::Stopped) };
        let mut words =
            tokenizer.get_added_vocabulary().extract_and_normalize(tokenizer.get_normalizer(), text);
        let rules = match tokenizer.get_pre_tokenizer() {
            Some(PreTokenizerWrapper::Sequence(rules)) => rules.as_ref(),
            Some(rule) => std::slice::from_ref(rule),
            None => &[],
        };
        for rule in rules {
            go_on()?;
            rule.pre_tokenize(&mut words).map_err(TokenizerError::Encode)?;
        }
        let word = |word: &tokenizers::NormalizedString| {
            go_on()?;
            tokenizers::Model::tokenize(tokenizer.get_model(), word.get())
        };
        words.tokenize(word).map_err(|error| match error.downcast::<TokenizerError>() {
            Ok(stopped) => *stopped,
            Err(error) => TokenizerError::Encode(error),
        })?;
        let encoding = words.into_encoding(None, 0, OffsetType::None).map_err(TokenizerError::Encode)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Which white space token `id` takes: before it, after it.
    fn strips(&self) -> impl Fn(u32) -> (bool, bool) + use<> {
        let added = match self {
            Self::Library { parsing, .. } => parsing.get_added_tokens_decoder(),
            Self::BytePair(_) | Self::SentencePiece(_) => Default::default(),
        };
        move |id| added.get(&id).map_or((false, false), |token| (token.lstrip, token.rstrip))
    }
}

/// The tokens with a role, and when they are added.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpecialTokens {
    /// Begin of text.
    pub bos: Option<u32>,
    /// End of text, the main stop token.
    pub eos: Option<u32>,
    /// Whether the model wants `bos` in front of every prompt.
    pub add_bos: bool,
    /// Whether the model wants `eos` after every prompt; rare.
    pub add_eos: bool,
    /// All tokens that end a turn or a text, sorted.
    pub stop: Vec<u32>,
}

impl Tokenizer {
    fn new(splitter: Splitter, table: TokenTable, special: SpecialTokens, space_prefix: bool) -> Self {
        let strips = splitter.strips();
        let control = (0..table.len() as u32).filter(|&id| table.kind(id) == Some(TokenKind::Control));
        let control = control.filter_map(|id| {
            let name = std::str::from_utf8(table.bytes(id)?).ok()?;
            let (takes_space_before, takes_space_after) = strips(id);
            let token = NamedToken { id, takes_space_before, takes_space_after };
            (name.chars().count() > 1).then_some((name, token))
        });
        let control = TokenNames::new(control);
        Self { splitter, table, control, special, space_prefix }
    }

    /// Token ids of `text`, in which control tokens have no power: `<|im_end|>` is nine characters. For
    /// everything that comes from a user. Adds no BOS.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] when the library refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.encode_while(text, false, &|| true)
    }

    /// Token ids of `text`, in which control tokens become their ids. For rendered chat templates and trusted
    /// prompts. Adds no BOS.
    ///
    /// # Errors
    /// [`TokenizerError::Encode`] when the library refuses the text.
    pub fn encode_with_control(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        self.encode_while(text, true, &|| true)
    }

    /// [`Self::encode_with_control`] or [`Self::encode`] of a text that may be long, for as long as it is wanted. The
    /// tokenizers of GGUF files ask every few milliseconds, the library's between its rules and after each word.
    ///
    /// # Errors
    /// [`TokenizerError::Stopped`] when it is not wanted any more; [`TokenizerError::Encode`] when the library refuses
    /// the text.
    pub fn encode_while(
        &self,
        text: &str,
        with_control: bool,
        wanted: Wanted<'_>,
    ) -> Result<Vec<u32>, TokenizerError> {
        self.splitter.encode(text, with_control, wanted)
    }

    /// `ids` with BOS in front, if the model wants one and it is not there already: templates often write it.
    pub fn with_bos(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if let Some(bos) = self.special.bos
            && self.special.add_bos
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        ids
    }

    /// `ids` of a whole text as the model wants it, for a model that reads and does not go on writing: with BOS in front
    /// and EOS behind, where it wants them and they are not there already.
    pub fn with_bos_and_eos(&self, ids: Vec<u32>) -> Vec<u32> {
        let mut ids = self.with_bos(ids);
        if let Some(eos) = self.special.eos
            && self.special.add_eos
            && ids.last() != Some(&eos)
        {
            ids.push(eos);
        }
        ids
    }

    /// The text of a whole sequence as bytes, which need not be UTF-8. Control tokens give nothing, ids
    /// outside of the vocabulary neither. A space that encoding added in front is taken away; the
    /// continuation of a text keeps it, so append the [`Self::token_bytes`] of its tokens.
    pub fn decode(&self, ids: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &id in ids {
            if self.kind(id) == Some(TokenKind::Text) {
                bytes.extend(self.token_bytes(id).unwrap_or_default());
            }
        }
        if self.space_prefix && bytes.first() == Some(&b' ') {
            bytes.remove(0);
        }
        bytes
    }

    /// Like [`Self::decode`], with control tokens as their names.
    pub fn decode_with_control(&self, ids: &[u32]) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            ids.iter().flat_map(|&id| self.token_bytes(id).unwrap_or_default()).copied().collect();
        let starts_with_text = ids.first().is_some_and(|&id| self.kind(id) == Some(TokenKind::Text));
        if self.space_prefix && starts_with_text && bytes.first() == Some(&b' ') {
            bytes.remove(0);
        }
        bytes
    }

    /// The bytes of one token: what it adds to the text, or the name of a control token. `None` outside of
    /// the vocabulary. A token may hold a part of a character.
    pub fn token_bytes(&self, id: u32) -> Option<&[u8]> {
        self.table.bytes(id)
    }

    /// The kind of token `id`; `None` outside of the vocabulary.
    pub fn kind(&self, id: u32) -> Option<TokenKind> {
        self.table.kind(id)
    }

    /// The control token named `name`, such as `<|im_end|>`.
    pub fn control(&self, name: &str) -> Option<u32> {
        self.control.at(name, 0).filter(|&(length, _)| length == name.len()).map(|(_, token)| token.id)
    }

    pub(crate) fn control_names(&self) -> &TokenNames {
        &self.control
    }

    /// The name of a token with a role, for chat templates.
    pub(crate) fn name(&self, id: Option<u32>) -> String {
        let bytes = id.and_then(|id| self.token_bytes(id)).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Tokens in the vocabulary. The model may have more rows, see [`crate::Hyperparameters::vocab`].
    pub fn vocabulary_size(&self) -> usize {
        self.table.len()
    }

    /// The tokens with a role.
    pub fn special(&self) -> &SpecialTokens {
        &self.special
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({} tokens, {:?})", self.vocabulary_size(), self.special)
    }
}
