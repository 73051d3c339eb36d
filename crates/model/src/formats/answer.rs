//! What a parser gives, and the whole that its parts are of.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::chat::FunctionCall;

/// A part of an answer. Texts of equal kind that follow each other are one text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// What the model says.
    Content(String),
    /// What the model thinks.
    Reasoning(String),
    /// A call begins. It is of a tool on offer.
    CallBegin {
        /// Counts the calls of an answer, from 0, failed ones included.
        index: usize,
        /// The tool's name.
        name: String,
    },
    /// More of the arguments of the call that has begun last.
    CallArguments {
        /// Of the call.
        index: usize,
        /// A piece of the text of a JSON object.
        json: String,
    },
    /// The call is complete: its arguments are a JSON object.
    CallEnd {
        /// Of the call.
        index: usize,
    },
    /// The call is none: its markup turned out to be wrong, or the answer ended in it. Its markup comes as
    /// content next, unaltered.
    CallFailed {
        /// Of the call.
        index: usize,
    },
}

/// An answer as a whole.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Answer {
    /// What the model says.
    pub content: String,
    /// What the model thinks.
    pub reasoning: String,
    /// What it calls.
    pub calls: Vec<FunctionCall>,
}

impl Answer {
    /// The answer of these parts: all parts that a parser gave, or those until now. A call counts once it is
    /// complete.
    pub fn from_parts(parts: &[Part]) -> Answer {
        let mut answer = Answer::default();
        let mut open: BTreeMap<usize, (String, String)> = BTreeMap::new();
        for part in parts {
            match part {
                Part::Content(text) => answer.content.push_str(text),
                Part::Reasoning(text) => answer.reasoning.push_str(text),
                Part::CallBegin { index, name } => {
                    open.insert(*index, (name.clone(), String::new()));
                }
                Part::CallArguments { index, json } => {
                    if let Some((_, arguments)) = open.get_mut(index) {
                        arguments.push_str(json);
                    }
                }
                Part::CallEnd { index } => {
                    if let Some((name, arguments)) = open.remove(index) {
                        // Text that JSON allows and a value cannot hold, such as half a surrogate, stays text.
                        let arguments = serde_json::from_str(&arguments).unwrap_or(Value::String(arguments));
                        answer.calls.push(FunctionCall { name, arguments });
                    }
                }
                Part::CallFailed { index } => {
                    open.remove(index);
                }
            }
        }
        answer
    }
}
