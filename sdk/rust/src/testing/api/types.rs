#[derive(Clone, Debug)]
pub enum Error {
    InvalidArgument(String),
    NotFound(String),
    Denied(String),
    OutOfPages(String),
    LimitExceeded(String),
    Cancelled,
    Closed(String),
    Backend(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Error {}
