//! `tollgate top`: the console in a terminal.

mod fetch;
mod view;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use self::fetch::fetch;
use self::view::{Style, view};
use crate::cli::TopArgs;

/// Enters the other screen, without a cursor and without breaking long lines; and leaves it.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// The upper left corner; the rest of a line; the rest of the screen.
const HOME: &str = "\x1b[H";
const REST_OF_LINE: &str = "\x1b[K\n";
const REST_OF_SCREEN: &str = "\x1b[J";

/// Shows what a server does until it is interrupted, or once.
pub(super) fn top(args: &TopArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return super::bad_input(&error),
    };
    let shown =
        runtime.block_on(async { if args.once || args.json { once(args).await } else { live(args).await } });
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn once(args: &TopArgs) -> anyhow::Result<()> {
    let state = fetch(&args.admin).await?;
    let text = if args.json {
        format!("{state}\n")
    } else {
        let style = Style::of(std::io::stdout().is_terminal());
        view(&serde_json::from_str(&state)?, args.rows, style)
    };
    // a reader that has seen enough closes the pipe
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

async fn live(args: &TopArgs) -> anyhow::Result<()> {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    print(ENTER)?;
    let shown = tokio::select! {
        shown = async {
            loop {
                seconds.tick().await;
                let text = match state(args).await {
                    Ok(state) => view(&state, args.rows, Style::Colours),
                    // it may come back
                    Err(error) => format!("{error:#}\n\ntrying again each second; Ctrl-C ends\n"),
                };
                print(&format!("{HOME}{}{REST_OF_SCREEN}", text.replace('\n', REST_OF_LINE)))?;
            }
        } => shown,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(anyhow::Error::from),
    };
    print(LEAVE)?;
    shown
}

async fn state(args: &TopArgs) -> anyhow::Result<Value> {
    Ok(serde_json::from_str(&fetch(&args.admin).await?)?)
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
