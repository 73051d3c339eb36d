//! Errors as the OpenAI API has them: a status, and an object that says what, of which kind, and where.

use inferlet::http::StatusCode;
use inferlet::{Error, Value, anyhow, json};

/// Why a request has no answer.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    param: Option<String>,
    code: Option<&'static str>,
}

/// The result of most functions here.
pub type Result<T> = std::result::Result<T, ApiError>;

impl ApiError {
    /// Of this status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { status, message: message.into(), param: None, code: None }
    }

    /// A parameter with a value that it cannot have.
    pub fn invalid(param: &str, message: impl Into<String>) -> ApiError {
        let error = ApiError::new(StatusCode::BAD_REQUEST, format!("`{param}`: {}", message.into()));
        ApiError { param: Some(param.to_string()), code: Some("invalid_value"), ..error }
    }

    /// A parameter that is not supported.
    pub fn unsupported(param: &str, message: impl Into<String>) -> ApiError {
        ApiError { code: Some("unsupported_parameter"), ..ApiError::invalid(param, message) }
    }

    /// What is wrong with a prompt. One beyond what the tokenizer takes at once is too long for the client as one beyond
    /// the context is.
    pub fn of_prompt(error: anyhow::Error, param: &str) -> ApiError {
        let is_too_long = matches!(error.downcast_ref::<Error>(), Some(Error::LimitExceeded(_)));
        let error = ApiError::from(error).about(param);
        if is_too_long { error.with_code("context_length_exceeded") } else { error }
    }

    /// The same, about this parameter.
    pub fn about(self, param: &str) -> ApiError {
        let code = self.code.or((self.status == StatusCode::BAD_REQUEST).then_some("invalid_value"));
        ApiError {
            param: Some(param.to_string()),
            message: format!("`{param}`: {}", self.message),
            code,
            ..self
        }
    }

    /// The same with a code that programs look at.
    pub fn with_code(self, code: &'static str) -> ApiError {
        ApiError { code: Some(code), ..self }
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong, in words.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The body of the answer.
    pub fn body(&self) -> Value {
        let kind = match self.status {
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        json!({ "error": { "message": self.message, "type": kind, "param": self.param, "code": self.code } })
    }
}

/// An error of the server, by what the client can do about it.
impl From<anyhow::Error> for ApiError {
    fn from(error: anyhow::Error) -> ApiError {
        match error.downcast_ref::<Error>() {
            Some(Error::InvalidArgument(text)) => ApiError::new(StatusCode::BAD_REQUEST, text.clone()),
            Some(Error::NotFound(text)) => ApiError::new(StatusCode::NOT_FOUND, text.clone()),
            Some(Error::Denied(text)) => ApiError::new(StatusCode::FORBIDDEN, text.clone()),
            Some(Error::LimitExceeded(text)) => ApiError::new(StatusCode::BAD_REQUEST, text.clone()),
            Some(Error::OutOfPages(text)) => ApiError::new(StatusCode::TOO_MANY_REQUESTS, text.clone()),
            Some(Error::Backend(text)) => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, text.clone()),
            _ => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}")),
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> ApiError {
        anyhow::Error::from(error).into()
    }
}
