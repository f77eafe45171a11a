//! Log lines on their way to stderr. Whoever reads stderr may stop reading, and no write waits for that: lines go through a
//! thread of their own, and what it cannot get rid of is dropped and counted.

use std::io::{IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

/// Silences the API server's client, whatever RUST_LOG says.
const QUIET_CLIENT: &str = "kube_client=off";

/// How many bytes wait at most: some thousand lines.
const WAITING: usize = 1024 * 1024;

/// How long the last lines may take at the end.
const LAST: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Clone, Debug)]
pub struct Logs {
    lines: Sender<Message>,
    waiting: Arc<AtomicUsize>,
    lost: Counter,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    End(SyncSender<()>),
}

/// Logs to stderr, as text on a terminal and as JSON elsewhere; RUST_LOG chooses what.
pub fn start() -> Logs {
    let mut filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    // The client logs whole bodies of answers that it cannot read. What went wrong is said where it matters.
    if let Ok(quiet) = QUIET_CLIENT.parse() {
        filter = filter.add_directive(quiet);
    }
    let logs = Logs::to(std::io::stderr());
    let writer = logs.clone();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone());
    if std::io::stderr().is_terminal() {
        lines.init()
    } else {
        lines.json().flatten_event(true).init()
    }
    logs
}

impl Logs {
    fn to(sink: impl Write + Send + 'static) -> Self {
        let (lines, waiting_lines) = mpsc::channel();
        let logs = Self { lines, waiting: Arc::default(), lost: Counter::default() };
        let waiting = logs.waiting.clone();
        std::thread::spawn(move || write(sink, waiting_lines, &waiting));
        logs
    }

    /// How many lines were dropped.
    pub fn lost(&self) -> Counter {
        self.lost.clone()
    }

    /// Waits for the lines that are still on their way, and not for long.
    pub fn end(&self) {
        let (done, ended) = mpsc::sync_channel(1);
        if self.lines.send(Message::End(done)).is_ok() {
            // Where nobody reads them, they are lost.
            let _ = ended.recv_timeout(LAST);
        }
    }
}

impl Write for Logs {
    /// One line a call, as the subscriber writes them.
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let length = line.len();
        let before = self.waiting.fetch_add(length, Ordering::Relaxed);
        if before + length > WAITING || self.lines.send(Message::Line(line.to_vec())).is_err() {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            self.lost.inc();
        }
        Ok(length)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn write(mut sink: impl Write, lines: Receiver<Message>, waiting: &AtomicUsize) {
    for message in lines {
        match message {
            Message::Line(line) => {
                // There is nobody to tell.
                let _ = sink.write_all(&line);
                waiting.fetch_sub(line.len(), Ordering::Relaxed);
            }
            Message::End(done) => drop(done.send(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A pipe that nobody reads until the gate is opened.
    struct Pipe(Arc<Mutex<Vec<u8>>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// while nobody reads the log, a line costs its writer nothing, as many wait as there is room for, and the rest is
    /// counted; what waits is written as soon as somebody reads again.
    #[test]
    fn who_logs_does_not_wait_for_who_reads() {
        let read = Arc::new(Mutex::new(Vec::new()));
        let mut logs = Logs::to(Pipe(read.clone()));
        let line = [b'x'; 1024];
        let blocked = read.lock().unwrap();
        for _ in 0..2_000 {
            logs.write_all(&line).unwrap();
        }
        // At its end it is waited for, and not for ever.
        logs.end();
        assert_eq!(logs.lost().get(), 2_000 - 1_024);
        drop(blocked);
        logs.end();
        assert_eq!(read.lock().unwrap().len(), WAITING);
        logs.write_all(&line).unwrap();
        logs.end();
        assert_eq!(read.lock().unwrap().len(), WAITING + line.len());
        assert_eq!(logs.lost().get(), 2_000 - 1_024);
    }
}
