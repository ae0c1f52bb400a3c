//! A registry made by hand: it answers what a test says, lies where a test wants it to, and remembers what it was asked.

use std::{
    io::{self, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With its query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The same for another path.
    pub(crate) fn at(&self, path: &str) -> Asked {
        Asked { path: path.to_owned(), ..self.clone() }
    }

    /// Where the range begins that is asked for.
    pub(crate) fn range(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    said_length: Option<u64>,
    cut: Option<usize>,
    stalls: bool,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, body: body.into(), ..Reply::default() }
    }

    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Reply {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.status == 404
    }

    /// Says another length than it has.
    pub(crate) fn saying(self, length: u64) -> Reply {
        Reply { said_length: Some(length), ..self }
    }

    /// Ends the connection after so many bytes of the body.
    pub(crate) fn cut_after(self, bytes: usize) -> Reply {
        Reply { cut: Some(bytes), ..self }
    }

    /// Sends no more after [`Reply::cut_after`], and stays.
    pub(crate) fn and_stalls(self) -> Reply {
        Reply { stalls: true, ..self }
    }
}

pub(crate) fn not_found() -> Reply {
    Reply::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#)
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A server on a port of this machine, until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    ends: Arc<AtomicBool>,
    /// Connections whose other side has gone while something was sent to it, or waited for.
    pub(crate) left: Arc<AtomicBool>,
    /// The certificate, when it speaks TLS.
    pub(crate) certificate: Option<String>,
}

impl Server {
    pub(crate) fn plain(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Server {
        Server::start(None, Arc::new(answer))
    }

    /// With a certificate of its own for `localhost` and 127.0.0.1.
    pub(crate) fn tls(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Server {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let mut server = Server::start(Some(Arc::new(config)), Arc::new(answer));
        server.certificate = Some(made.cert.pem());
        server
    }

    fn start(tls: Option<Arc<ServerConfig>>, answer: Arc<Answer>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, ends) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(AtomicBool::new(false)));
        let left = Arc::new(AtomicBool::new(false));
        let server = Server {
            address,
            asked: Arc::clone(&asked),
            ends: Arc::clone(&ends),
            left: Arc::clone(&left),
            certificate: None,
        };
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let stream = stream.unwrap();
                let (asked, answer, tls) = (Arc::clone(&asked), Arc::clone(&answer), tls.clone());
                let left = Arc::clone(&left);
                thread::spawn(move || {
                    let raw = stream.try_clone().unwrap();
                    let done = match tls {
                        None => serve(stream, &raw, &asked, &*answer),
                        Some(config) => {
                            let session = ServerConnection::new(config).unwrap();
                            serve(StreamOwned::new(session, stream), &raw, &asked, &*answer)
                        }
                    };
                    if done.is_err() {
                        left.store(true, Ordering::Relaxed);
                    }
                    let _ = raw.shutdown(Shutdown::Both);
                });
            }
        });
        server
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    /// `localhost:PORT`: the same, under another name.
    pub(crate) fn other_name(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// How often something with this method and in the path was asked.
    pub(crate) fn count(&self, method: &str, part: &str) -> usize {
        self.asked().iter().filter(|asked| asked.method == method && asked.path.contains(part)).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Answers until the other side goes, or a reply ends the connection. An error says that it went in between.
fn serve(
    stream: impl Read + Write,
    raw: &TcpStream,
    asked: &Mutex<Vec<Asked>>,
    answer: &Answer,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let one = match read(&mut stream) {
            Ok(Some(one)) => one,
            Ok(None) => return Ok(()),
            // As servers answer who says something else than HTTP.
            Err(_) => return stream.get_mut().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        };
        asked.lock().unwrap().push(one.clone());
        let reply = answer(&one);
        if !write(stream.get_mut(), &one, &reply)? {
            if reply.stalls {
                // Until the other side goes.
                stream.get_mut().flush()?;
                let gone = raw.peek(&mut [0]).map(|count| count == 0);
                return if gone.unwrap_or(true) { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) };
            }
            return Ok(());
        }
    }
}

fn read(stream: &mut impl io::BufRead) -> io::Result<Option<Asked>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut one = Asked { method: method.into(), path: path.into(), headers: Vec::new(), body: Vec::new() };
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        one.headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let length = one.header("content-length").map_or(0, |text| text.parse().unwrap());
    one.body.resize(length, 0);
    stream.read_exact(&mut one.body)?;
    Ok(Some(one))
}

/// Whether the connection goes on.
fn write(stream: &mut impl Write, asked: &Asked, reply: &Reply) -> io::Result<bool> {
    let length = reply.said_length.unwrap_or(reply.body.len() as u64);
    let mut head = format!("HTTP/1.1 {} X\r\nContent-Length: {length}\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if asked.method == "HEAD" {
        return stream.flush().map(|()| true);
    }
    let sent = reply.cut.unwrap_or(reply.body.len()).min(reply.body.len());
    stream.write_all(&reply.body[..sent])?;
    stream.flush()?;
    Ok(sent as u64 == length)
}
