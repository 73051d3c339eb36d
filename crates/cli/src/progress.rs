//! Progress bars on stderr; nothing when it is not a terminal, so that logs stay readable.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that counts bytes.
pub(crate) fn bytes(message: &str, total: Option<u64>) -> ProgressBar {
    let style = match total {
        Some(_) => "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        None => "{msg} {spinner} {bytes} {bytes_per_sec}",
    };
    let bar = ProgressBar::new(total.unwrap_or(0));
    bar.set_style(ProgressStyle::with_template(style).expect("the template is valid"));
    bar.set_message(message.to_string());
    bar
}

/// A line that turns while something of unknown length is under way.
pub(crate) fn spinner(message: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_message(message.to_string());
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}
