//! Programs from this machine.

use std::collections::VecDeque;
use std::path::Path;

use tokio::sync::oneshot;

use super::{Client, ClientError, unexpected};
use crate::{Answer, Call, Data};

/// Parts that are under way at once: enough to fill the line, and few bytes.
const WINDOW: usize = 4;

/// An answer that will come.
type Answered = oneshot::Receiver<Result<Answer, ClientError>>;

impl Client {
    /// Uploads a program if the server does not have it, and gives its hash, by which it can be launched. `progress` is told
    /// the bytes that are there, and of how many.
    ///
    /// # Errors
    /// When the server refuses it, or the session is over.
    pub async fn upload(
        &self,
        wasm: &[u8],
        mut progress: impl FnMut(u64, u64),
    ) -> Result<String, ClientError> {
        let hash = blake3::hash(wasm).to_hex().to_string();
        let total = wasm.len() as u64;
        if let Answer::Found { known: true } = self.call(Call::Find { hash: hash.clone() }).await? {
            progress(total, total);
            return Ok(hash);
        }
        self.keep(wasm, progress).await
    }

    /// Uploads a program as one of the user's own, which can be given a name, also where the server has one of the same
    /// bytes. Gives its hash.
    ///
    /// # Errors
    /// As [`Client::upload`].
    pub async fn keep(&self, wasm: &[u8], mut progress: impl FnMut(u64, u64)) -> Result<String, ClientError> {
        let hash = blake3::hash(wasm).to_hex().to_string();
        let total = wasm.len() as u64;
        progress(0, total);
        let chunk = self.limits().chunk_bytes.max(1) as usize;
        // An empty file is refused by the server, in its words.
        let parts: Vec<&[u8]> = if wasm.is_empty() { vec![&[]] } else { wasm.chunks(chunk).collect() };
        let mut under_way = VecDeque::new();
        let mut is_complete = false;
        for (index, part) in parts.into_iter().enumerate() {
            let (offset, data) = ((index * chunk) as u64, Data(part.to_vec()));
            let call = Call::Upload { hash: hash.clone(), bytes: total, offset, data };
            under_way.push_back(self.begin(call)?);
            if under_way.len() >= WINDOW
                && let Some(answered) = under_way.pop_front()
            {
                is_complete = self.received(answered.await, &mut progress, total)?;
            }
            if is_complete {
                break;
            }
        }
        while let Some(answered) = under_way.pop_front() {
            is_complete |= self.received(answered.await, &mut progress, total)?;
        }
        match is_complete {
            true => Ok(hash),
            false => {
                Err(ClientError::Protocol("all parts were sent, and the program is not complete".into()))
            }
        }
    }

    fn received(
        &self,
        answered: Result<Result<Answer, ClientError>, oneshot::error::RecvError>,
        progress: &mut impl FnMut(u64, u64),
        total: u64,
    ) -> Result<bool, ClientError> {
        match answered.map_err(|_| super::over())?? {
            Answer::Received { bytes, complete } => {
                progress(bytes, total);
                Ok(complete)
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a call whose answer comes later.
    fn begin(&self, call: Call) -> Result<Answered, ClientError> {
        let (answer, answered) = oneshot::channel();
        self.command(super::Command::Call { call, answer })?;
        Ok(answered)
    }

    /// The same with a file.
    ///
    /// # Errors
    /// As [`Client::upload`], and when the file cannot be read.
    pub async fn upload_file(
        &self,
        path: &Path,
        progress: impl FnMut(u64, u64),
    ) -> Result<String, ClientError> {
        self.upload(&read(path).await?, progress).await
    }

    /// [`Client::keep`] with a file.
    ///
    /// # Errors
    /// As [`Client::upload`], and when the file cannot be read.
    pub async fn keep_file(
        &self,
        path: &Path,
        progress: impl FnMut(u64, u64),
    ) -> Result<String, ClientError> {
        self.keep(&read(path).await?, progress).await
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    let owned = path.to_path_buf();
    let read = tokio::task::spawn_blocking(move || std::fs::read(owned)).await;
    let failed = |reason: String| ClientError::File { path: path.display().to_string(), reason };
    read.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))
}
