use super::{Error, invalid};
use crate::testing::pause;

use super::model::Model;

#[derive(Clone, Debug)]
pub enum Source {
    Name(String),
    Gguf(Vec<u8>),
    Peft((String, Vec<u8>)),
}

/// What a model does with an adapter is the model's: it sees the name.
#[derive(Debug)]
pub struct Adapter {
    pub(crate) name: String,
}

impl Adapter {
    pub async fn load(_model: &Model, source: Source) -> Result<Adapter, Error> {
        pause().await;
        match source {
            Source::Name(name) => Ok(Adapter { name }),
            Source::Gguf(_) | Source::Peft(_) => Err(invalid("a test loads adapters by name")),
        }
    }

    pub fn rank(&self) -> u32 {
        1
    }

    pub fn tensors(&self) -> Vec<String> {
        Vec::new()
    }
}

pub fn available() -> Result<Vec<String>, Error> {
    Ok(Vec::new())
}
