//! Child processes that end with the value that started them, and whose output can be waited for.

use std::{
    io::{self, BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// How long a process may take to end after SIGTERM before SIGKILL follows.
const GRACE: Duration = Duration::from_secs(5);

/// A running child process with its output so far.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: Arc<Log>,
}

/// Lines of standard output and standard error, in the order they came.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Log {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a stream to its end on a thread of its own.
    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        let log = Arc::clone(self);
        thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                log.lines()
                    .push(String::from_utf8_lossy(&line).into_owned());
                log.grown.notify_all();
            }
        });
    }
}

impl Process {
    /// Starts a command; the kernel ends it too when the thread that calls this ends.
    ///
    /// # Errors
    ///
    /// The program cannot be started.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: the calls are async-signal-safe and touch nothing of the parent; the all-zero set
        // that sigemptyset initialises is a valid place for it.
        unsafe {
            command.pre_exec(|| {
                // std hands on what the parent blocks; SIGTERM must reach the child all the same.
                let mut none: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&raw mut none);
                libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
                match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        let log = Arc::new(Log::default());
        if let Some(stream) = child.stdout.take() {
            log.follow(stream);
        }
        if let Some(stream) = child.stderr.take() {
            log.follow(stream);
        }
        Ok(Self {
            child,
            name: name.to_owned(),
            log,
        })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written so far.
    pub fn output(&self) -> Vec<String> {
        self.log.lines().clone()
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for a line that contains `text`, from the first line on, and returns it.
    ///
    /// # Errors
    ///
    /// The deadline passes or the process ends; the error carries the output.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let ended = self.exited();
            let mut lines = self.log.lines();
            if let Some(line) = lines.iter().find(|line| line.contains(text)) {
                return Ok(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if ended.is_some() || left.is_zero() {
                let said = lines.join("\n");
                drop(lines);
                let why = ended.map_or("is silent about it".to_owned(), |end| end.to_string());
                bail!("waited for {text:?} of {}, which {why}:\n{said}", self.name);
            }
            // Wakes now and then without news, to see whether the process has ended.
            let nap = left.min(Duration::from_millis(100));
            lines = self
                .log
                .grown
                .wait_timeout(lines, nap)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            drop(lines);
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: libc::c_int) {
        if let Ok(id) = libc::pid_t::try_from(self.child.id()) {
            // SAFETY: kill takes no memory; the child is not waited for yet, so the id is its own.
            unsafe { libc::kill(id, signal) };
        }
    }

    /// Asks it to end, and makes it end after a grace period; returns how it ended.
    ///
    /// # Errors
    ///
    /// It cannot be waited for.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.exited() {
            return Ok(status);
        }
        self.signal(libc::SIGTERM);
        let deadline = Instant::now() + GRACE;
        while Instant::now() < deadline {
            if let Some(status) = self.exited() {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.child
            .kill()
            .with_context(|| format!("killing {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("waiting for {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{} may still run: {error:#}", self.name);
        }
        if thread::panicking() {
            eprintln!(
                "--- output of {}\n{}\n---",
                self.name,
                self.log.lines().join("\n")
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn a_child_ends_by_sigterm_though_its_parent_blocks_it() {
        // SAFETY: the set is initialised by sigemptyset, and the pointers are valid for the calls.
        // The mask is that of this thread alone.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGTERM);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        }
        let mut command = Command::new("sleep");
        let mut process = Process::start("sleep", command.arg("600")).unwrap();
        let ended = process.stop().unwrap();
        assert_eq!(ended.signal(), Some(libc::SIGTERM));
    }
}
