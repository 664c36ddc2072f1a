//! A small Mesos master: real HTTP, real state, on a thread of its own.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

/// How long a client may take for its request.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most of a request that is read.
const REQUEST_OCTETS: u64 = 64 * 1024;

/// A master that serves one state until it gets another; it ends with the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Master {
    state: Arc<Mutex<String>>,
}

impl Master {
    /// Serves on a listener, which may belong to another network namespace.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub(crate) fn serve(listener: TcpListener, state: String) -> Result<Self> {
        let master = Self {
            state: Arc::new(Mutex::new(state)),
        };
        let serving = master.clone();
        let listen = move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                // A client that goes away in the middle is its own affair.
                thread::spawn(move || drop(serving.answer(stream)));
            }
        };
        let thread = thread::Builder::new().name("master".to_owned());
        thread.spawn(listen).context("starting the sample master")?;
        Ok(master)
    }

    /// Serves this state from the next request on.
    pub(crate) fn set_state(&self, state: String) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    fn answer(&self, stream: TcpStream) -> Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut lines = BufReader::new((&stream).take(REQUEST_OCTETS)).lines();
        let request = lines.next().context("no request")??;
        for header in lines {
            if header?.is_empty() {
                break;
            }
        }
        let path = request.split(' ').nth(1).unwrap_or_default();
        let (status, body) = match path.split('?').next().unwrap_or_default() {
            "/state" | "/state.json" | "/master/state" | "/master/state.json" => {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                ("200 OK", state.clone())
            }
            "/health" | "/master/health" => ("200 OK", String::new()),
            _ => ("404 Not Found", String::new()),
        };
        let mut stream = &stream;
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_served_over_http() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let master = Master::serve(listener, "{}".to_owned()).unwrap();
        master.set_state("{\"leader\":1}".to_owned());
        let ask = |path: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: master\r\n\r\n").unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).unwrap();
            response
        };
        let response = ask("/master/state");
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.ends_with("\r\n\r\n{\"leader\":1}"), "{response}");
        assert!(ask("/nothing").starts_with("HTTP/1.1 404 "));
    }
}
