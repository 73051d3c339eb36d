//! The log, on stderr: as text, or as JSON with one object a line.
//!
//! An object has `timestamp`, `level` and `target`, and beside them, on the same level, the fields of the spans around
//! the line, such as `request_id`, and its own: the text is `message`.

use std::fmt;
use std::io::IsTerminal;

use serde_json::{Map, Value};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// Starts the log. `PIE_LOG` chooses what is in it; without it, `verbose` does: 0, 1 or more.
pub(crate) fn start(verbose: u8, format: LogFormat) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("PIE_LOG").unwrap_or_else(|_| default.into());
    // Whatever is chosen, it has the ids of requests: their spans are of this target.
    let filter = filter.add_directive("request=error".parse().expect("a directive"));
    // Colours are for people: a journal and a file would keep their codes.
    let is_coloured =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    // A terminal that is gone takes no lines: to say so on stderr would end the task that has something to say.
    let log = tracing_subscriber::fmt().log_internal_errors(false);
    let log = log.with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_coloured);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.fmt_fields(JsonFields::new()).event_format(JsonLines).init(),
    }
}

/// See the module docs.
struct JsonLines;

impl<S> FormatEvent<S, JsonFields> for JsonLines
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        let mut timestamp = String::new();
        SystemTime.format_time(&mut Writer::new(&mut timestamp))?;
        let of_event = event.metadata();
        line.insert("timestamp".into(), timestamp.into());
        line.insert("level".into(), of_event.level().as_str().into());
        line.insert("target".into(), of_event.target().into());
        // Those of inner spans win, and those of the line itself over all.
        for span in context.event_scope().into_iter().flatten().collect::<Vec<_>>().into_iter().rev() {
            if let Some(fields) = span.extensions().get::<FormattedFields<JsonFields>>() {
                line.extend(object(&fields.fields));
            }
        }
        let mut fields = String::new();
        context.field_format().format_fields(Writer::new(&mut fields), event)?;
        line.extend(object(&fields));
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// The fields that [`JsonFields`] wrote.
fn object(fields: &str) -> Map<String, Value> {
    serde_json::from_str(fields).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_object_with_the_fields_of_its_spans() {
        let written = Written::default();
        let writer = written.clone();
        let log = tracing_subscriber::fmt().fmt_fields(JsonFields::new()).event_format(JsonLines);
        tracing::subscriber::with_default(log.with_writer(move || writer.clone()).finish(), || {
            let span = tracing::error_span!("request", request_id = "a\"b", part = 1);
            span.in_scope(|| tracing::warn!(part = 2, ms = 0.5, "two\nlines of {}", "text"));
            tracing::warn!("alone");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [line, alone] = &lines[..] else { panic!("{text}") };
        assert_eq!(
            (&line["request_id"], &line["part"], &line["ms"]),
            (&"a\"b".into(), &2.into(), &0.5.into())
        );
        assert_eq!((&line["message"], &line["level"]), (&"two\nlines of text".into(), &"WARN".into()));
        assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        assert_eq!((&alone["message"], alone.get("request_id")), (&"alone".into(), None));
    }
}
