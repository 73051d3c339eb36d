//! `sonnet`: lines of a file of verse, as many as fit: natural text of a given length that begins alike.

use super::rows::read_text;
use super::tokens::Tokens;
use super::{Dataset, DatasetError, DatasetOptions, Prompt, Sample, Spec, text};

/// Lines of a text.
pub const SPEC: Spec = Spec {
    name: "sonnet",
    about: "lines of a text file, drawn until --random-input-len tokens are reached; the first --random-prefix-len tokens are alike",
    reads_file: true,
    load,
};

fn load(options: &DatasetOptions, tokens: &Tokens) -> Result<Dataset, DatasetError> {
    let path = options.path.as_deref().ok_or(DatasetError::NoPath(SPEC.name))?;
    let whole = read_text(path)?;
    let lines: Vec<&str> = whole.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return Err(DatasetError::NoSample { path: path.into(), why: "it has no line with text".into() });
    }
    let mut rng = fastrand::Rng::with_seed(options.seed);
    let prefix = text::fit(&mut rng, tokens, &lines.join("\n"), options.prefix_tokens)?;
    let mut samples = Vec::with_capacity(options.count);
    for _ in 0..options.count {
        let mut body = String::new();
        while tokens.count(&body)? < options.input_tokens {
            // Several lines at once, so that the text is counted a few times only.
            for _ in 0..(options.input_tokens / 40).clamp(1, 200) {
                body.push_str(lines[rng.usize(..lines.len())]);
                body.push('\n');
            }
        }
        let body = text::fit(&mut rng, tokens, &body, options.input_tokens)?;
        let prompt = if prefix.is_empty() { body } else { format!("{prefix}\n{body}") };
        let count = tokens.count(&prompt)?;
        samples.push(Sample::new(Prompt::Text(prompt), count, options.output_tokens.unwrap_or(150)));
    }
    Ok(Dataset { samples, notes: Vec::new() })
}
