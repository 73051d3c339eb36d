//! Answers in a markup of the tests' own: `<think>…</think>` is reasoning, `<call>NAME JSON</call>` a call.

use std::cell::{Cell, RefCell};

use super::model::Model;
use super::{Error, invalid};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Content(String),
    Reasoning(String),
    CallBegin(String),
    CallArguments(String),
    CallEnd,
    CallFailed,
}

#[derive(Clone, Debug)]
pub struct ReaderOptions {
    pub tools: Option<String>,
    pub any_tool: bool,
    pub in_reasoning: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReasoningPlace {
    None,
    Before,
    Opened,
}

#[derive(Clone, Debug)]
pub struct CallOptions {
    pub tools: String,
    pub name: Option<String>,
    pub parallel: bool,
    pub reasoning: ReasoningPlace,
}

#[derive(Clone, Debug)]
pub struct Trigger {
    pub text: String,
    pub token: Option<u32>,
    pub at_start: bool,
    pub grammar: String,
}

const TAGS: [&str; 3] = ["<think>", "</think>", "<call>"];
const CALL_END: &str = "</call>";

/// Reads an answer; a call is given out when all of it is there.
#[derive(Debug)]
pub struct Reader {
    tools: Vec<String>,
    in_reasoning: Cell<bool>,
    held: RefCell<String>,
}

impl Reader {
    pub fn create(_model: &Model, options: &ReaderOptions) -> Result<Reader, Error> {
        let tools = options.tools.as_deref().map_or_else(|| Ok(Vec::new()), names)?;
        Ok(Reader { tools, in_reasoning: Cell::new(options.in_reasoning), held: RefCell::default() })
    }

    pub fn read(&self, text: &str) -> Result<Vec<Part>, Error> {
        self.held.borrow_mut().push_str(text);
        let mut parts = Vec::new();
        while let Some(part) = self.next() {
            parts.extend(part);
        }
        Ok(parts)
    }

    pub fn finish(&self) -> Vec<Part> {
        let rest = std::mem::take(&mut *self.held.borrow_mut());
        if rest.is_empty() { Vec::new() } else { vec![self.text(&rest)] }
    }

    fn text(&self, text: &str) -> Part {
        match self.in_reasoning.get() {
            true => Part::Reasoning(text.to_string()),
            false => Part::Content(text.to_string()),
        }
    }

    /// What the held text begins with; none while more of it must be known.
    fn next(&self) -> Option<Vec<Part>> {
        let mut held = self.held.borrow_mut();
        let tag = TAGS.into_iter().find(|tag| held.starts_with(tag));
        if tag == Some("<call>") {
            let end = held.find(CALL_END)? + CALL_END.len();
            let markup: String = held.drain(..end).collect();
            return Some(self.call(&markup));
        }
        if let Some(tag) = tag {
            held.drain(..tag.len());
            self.in_reasoning.set(tag == "<think>");
            return Some(Vec::new());
        }
        if held.is_empty() || TAGS.iter().any(|tag| tag.starts_with(held.as_str())) {
            return None;
        }
        let end = held[1..].find('<').map_or(held.len(), |at| at + 1);
        let text: String = held.drain(..end).collect();
        Some(vec![self.text(&text)])
    }

    fn call(&self, markup: &str) -> Vec<Part> {
        let inner = &markup["<call>".len()..markup.len() - CALL_END.len()];
        match inner.split_once(' ').filter(|(name, _)| self.tools.iter().any(|tool| tool == name)) {
            Some((name, json)) => {
                vec![Part::CallBegin(name.to_string()), Part::CallArguments(json.to_string()), Part::CallEnd]
            }
            None => vec![Part::Content(markup.to_string())],
        }
    }
}

fn names(tools: &str) -> Result<Vec<String>, Error> {
    let tools: Vec<crate::Value> =
        serde_json::from_str(tools).map_err(|error| invalid(format!("the tools are no list: {error}")))?;
    Ok(tools.iter().filter_map(|tool| tool["function"]["name"].as_str().map(str::to_string)).collect())
}

/// The template of the tests leaves reasoning to the answer; a program may open it.
pub fn opens_reasoning(model: &Model, prompt: &[u32]) -> Result<bool, Error> {
    Ok(String::from_utf8_lossy(&model.detokenize(prompt)?).trim_end().ends_with("<think>"))
}

pub fn call_grammar(_model: &Model, options: &CallOptions) -> Result<String, Error> {
    let mut names = names(&options.tools)?;
    if let Some(wanted) = &options.name {
        names.retain(|name| name == wanted);
        if names.is_empty() {
            return Err(Error::NotFound(format!("no tool `{wanted}`")));
        }
    }
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    let calls = if options.parallel { "call+" } else { "call" };
    Ok(format!(
        "start: {calls}\ncall: \"<call>\" name \" \" arguments \"</call>\"\nname: {}\narguments: %json {{\"type\": \"object\"}}",
        names.join(" | ")
    ))
}

pub fn call_triggers(_model: &Model, tools: &str, _parallel: bool) -> Result<Vec<Trigger>, Error> {
    let names: Vec<String> = names(tools)?.iter().map(|name| format!("{name:?}")).collect();
    let grammar = format!(
        "start: name \" \" arguments \"</call>\"\nname: {}\narguments: %json {{\"type\": \"object\"}}",
        names.join(" | ")
    );
    Ok(vec![Trigger { text: "<call>".to_string(), token: None, at_start: false, grammar }])
}
