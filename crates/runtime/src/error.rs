//! Why a call of a program is refused or fails, in the words of the API.
//!
//! The modules behind the interfaces answer with it and know nothing of the generated bindings; `host` turns it into the
//! error of `wit/types.wit`.

use scheduler::{CallError, ForwardError};

/// The cases of `types.error`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// An argument is wrong; the call did nothing.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// No model, snapshot, program, key or topic of that name.
    #[error("not found: {0}")]
    NotFound(String),
    /// The operator does not allow it.
    #[error("denied: {0}")]
    Denied(String),
    /// The pass needs more pages than the quota of the inferlet or the whole pool has.
    #[error("out of pages: {0}")]
    OutOfPages(String),
    /// A limit is reached; the text names it.
    #[error("limit exceeded: {0}")]
    LimitExceeded(String),
    /// The call was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The other side is gone, or the server is stopping.
    #[error("closed: {0}")]
    Closed(String),
    /// The model or the storage failed.
    #[error("backend: {0}")]
    Backend(String),
}

impl From<ForwardError> for ApiError {
    fn from(error: ForwardError) -> ApiError {
        let text = error.to_string();
        match error {
            ForwardError::InvalidArgument(reason) => ApiError::InvalidArgument(reason),
            ForwardError::OutOfPages { .. } => ApiError::OutOfPages(text),
            ForwardError::Cancelled => ApiError::Cancelled,
            ForwardError::Backend(reason) => ApiError::Backend(reason),
            ForwardError::Closed => ApiError::Closed(text),
            ForwardError::Busy => ApiError::InvalidArgument(text),
            ForwardError::Overloaded => ApiError::LimitExceeded(text),
        }
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> ApiError {
        let text = error.to_string();
        match error {
            CallError::NotFound(_) => ApiError::NotFound(text),
            CallError::OutOfPages { .. } => ApiError::OutOfPages(text),
            CallError::Backend(reason) => ApiError::Backend(reason),
            CallError::Closed => ApiError::Closed(text),
            CallError::Overloaded | CallError::TooLong { .. } => ApiError::LimitExceeded(text),
            CallError::UnknownContext(_)
            | CallError::ContextExists(_)
            | CallError::Busy
            | CallError::OutOfRange { .. }
            | CallError::Mismatch(_) => ApiError::InvalidArgument(text),
        }
    }
}

/// The answer of a thread that is gone.
pub(crate) fn engine_gone<E>(_: E) -> ApiError {
    ApiError::Closed("the model's engine has stopped".into())
}

pub(crate) fn invalid(reason: impl Into<String>) -> ApiError {
    ApiError::InvalidArgument(reason.into())
}

/// Refuses a text or byte string longer than `limit` bytes; `what` names it.
pub(crate) fn check_length(what: &str, bytes: usize, limit: usize) -> Result<(), ApiError> {
    match bytes > limit {
        true => Err(ApiError::LimitExceeded(format!("{what} of {bytes} bytes exceeds the limit of {limit}"))),
        false => Ok(()),
    }
}
