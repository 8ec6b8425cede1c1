use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::*;

/// Keeps what is written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Lines {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs what `work` says, with a handle on the level.
fn logged(format: LogFormat, work: impl FnOnce(&LogHandle)) -> String {
    let lines = Lines::default();
    let written = lines.clone();
    let (layer, handle) = layer(format, move || written.clone());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || work(&handle));
    lines.text()
}

#[test]
fn json_lines_have_the_references_fields() {
    let text = logged(LogFormat::Json, |_| tracing::warn!(files = 3, name = "a", "rules loaded"));
    let line: Value = serde_json::from_str(text.trim_end()).unwrap();
    assert_eq!((&line["@message"], &line["level"]), (&"rules loaded".into(), &"warn".into()));
    assert_eq!((&line["files"], &line["name"]), (&3.into(), &"a".into()));
    let timestamp = line["@timestamp"].as_str().unwrap();
    assert!(
        timestamp.starts_with("20") && timestamp.ends_with('Z') && timestamp.contains('T'),
        "{timestamp}"
    );
}

#[test]
fn the_level_can_be_changed_while_logging() {
    let text = logged(LogFormat::Text, |log| {
        assert_eq!(log.get(), "info");
        tracing::debug!("first");
        log.set("debug").unwrap();
        tracing::debug!("second");
        log.set("warn,tollgate_server=info").unwrap();
        tracing::debug!("third");
    });
    assert!(!text.contains("first") && text.contains("second") && !text.contains("third"), "{text}");
}

#[test]
fn directives_that_make_no_sense_change_nothing() {
    logged(LogFormat::Text, |log| {
        for wrong in ["debgu", "", "h2", "h2=loud", "debug,,info"] {
            assert!(log.set(wrong).is_err(), "{wrong}");
        }
        assert!(log.set("shout").unwrap_err().contains("'shout' is no level: off, error, warn"));
        assert_eq!(log.get(), "info");
    });
}

#[test]
fn a_log_can_be_started_twice() {
    let one = init(&Log::default());
    let two = init(&Log { level: LogLevel::Debug, ..Log::default() });
    assert_eq!(one.get(), two.get());
}

#[test]
fn json_lines_of_a_followed_request_name_its_trace() {
    use futures_util::FutureExt as _;

    use crate::telemetry::metrics::ExportCounts;
    use crate::telemetry::trace::{Named, Sampler, TraceOptions, Tracer};

    let options = TraceOptions { sampler: Sampler::new(1.0, true), queue: 1, shows_values: false };
    let (tracer, _traces) = Tracer::new(options, ExportCounts::default());
    let named = || Named { span: "call", attributes: &[] };
    let live = tracer.begin(&http::HeaderMap::new(), named).unwrap();
    let id = format!("{:032x}", u128::from_be_bytes(live.trace().id()));
    let span = format!("{:016x}", u64::from_be_bytes(live.trace().span()));
    let text = logged(LogFormat::Json, |_| {
        live.within(async { tracing::info!("inside") }).now_or_never().unwrap();
        tracing::info!("outside");
    });
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["trace_id"], &lines[0]["span_id"]), (&id.into(), &span.into()));
    assert_eq!((&lines[1]["@message"], &lines[1]["trace_id"]), (&"outside".into(), &Value::Null));
}
