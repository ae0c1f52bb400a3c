//! The daemon's log: lines on stderr, which whoever started it keeps.

use std::io::IsTerminal;

use tracing::{Level, Subscriber};
use tracing_subscriber::{
    Layer, filter::Targets, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt,
};

use super::options::{LogFormat, LogLevel};

/// Begins to log.
pub(super) fn init(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Error => Level::ERROR,
        LogLevel::Warn => Level::WARN,
        LogLevel::Info => Level::INFO,
        LogLevel::Debug => Level::DEBUG,
        LogLevel::Trace => Level::TRACE,
    };
    // What the libraries think is told only to those who want everything.
    let theirs = if level == Level::TRACE { Level::DEBUG } else { Level::WARN };
    let targets = Targets::new().with_default(theirs.min(level)).with_target("tinyd", level);
    tracing_subscriber::registry().with(layer(format).with_filter(targets)).init();
}

fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync> {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text
            if std::env::var_os("JOURNAL_STREAM").is_some() && !std::io::stderr().is_terminal() =>
        {
            // The journal has its own clock.
            lines.with_ansi(false).without_time().boxed()
        }
        LogFormat::Text => lines.with_ansi(false).boxed(),
    }
}
