//! The request path. It reads from top to bottom in [`stack`]; a request changes its type when it is classified, so
//! that the compiler keeps the order of the layers.

mod admit;
mod body;
mod calls;
mod classify;
mod events;
mod head;
mod pass;
mod rescue;
mod resume;
mod serve;
mod stall;
mod telemetry;
mod upgrade;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use http::{Request, Response};
use hyper::body::Incoming;
use streamkeeper_session::{Code, Fault};
use tower::layer::layer_fn;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceBuilder, service_fn};

pub use admit::InFlight;
pub use body::AnswerBody;
pub(crate) use body::Events;
pub(crate) use events::{PIECE, Piece};
pub use stall::Writes;

use crate::app::App;
use crate::dialect::Dialect;
use crate::store::WholeAnswer;

/// A response of the data port.
pub type Answer = Response<AnswerBody>;
/// What is below a layer.
type Next<T> = BoxCloneSyncService<T, Answer, Refused>;
/// What is below the outermost layers, where requests are still HTTP's.
type Inner<E> = BoxCloneSyncService<Request<Incoming>, Answer, E>;
/// The whole path: every request gets an answer.
pub type Front = Inner<Infallible>;

/// Where a request came from; the server puts it into the request's extensions.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Its connection is in TLS.
    pub tls: bool,
    /// What its connection has to write.
    pub writes: Arc<Writes>,
    /// The request's body has not been read to its end. For HTTP/1.x, where a connection has one request at a time.
    pub unread: Arc<AtomicBool>,
}

/// The request path of `app`.
pub fn stack(app: &Arc<App>) -> Front {
    ServiceBuilder::new()
        // Every request has an id, every answer carries it.
        .layer(outermost(app, telemetry::identify))
        // Errors become answers, here alone.
        .layer(outermost(app, rescue::rescue))
        // Hosts and limits; the permit lives in the response body.
        .layer(step(app, admit::admit))
        // Request → Call: which route, which dialect, whose, and does it ask for a stream?
        .layer(step(app, classify::classify))
        // A call that names a session is answered from it.
        .layer(step(app, resume::resume))
        // What is not a stream passes; a response that turns out to be one goes on as a session.
        .layer(step(app, pass::pass))
        // A new session: its pump reads the upstream, this client is its first reader.
        .service(last(app, serve::serve))
}

/// A request that gets no stream and no upstream's answer, and why.
#[derive(Debug)]
pub(crate) struct Refused {
    fault: Box<Fault>,
    /// The wire the refusal is spoken in; the generic one if none is known yet.
    dialect: Option<Arc<dyn Dialect>>,
    /// An upstream's own answer, passed on as it is.
    answer: Option<Box<WholeAnswer>>,
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self { fault: Box::new(fault), dialect: None, answer: None }
    }
}

impl From<Code> for Refused {
    fn from(code: Code) -> Self {
        Fault::new(code).into()
    }
}

impl Refused {
    fn spoken_in(self, dialect: &Arc<dyn Dialect>) -> Self {
        Self { dialect: Some(Arc::clone(dialect)), ..self }
    }
}

fn step<In, Out, Fut, S>(
    app: &Arc<App>,
    run: fn(Arc<App>, In, Next<Out>) -> Fut,
) -> impl Layer<S, Service = Next<In>> + use<In, Out, Fut, S>
where
    In: Send + 'static,
    Out: 'static,
    Fut: Future<Output = Result<Answer, Refused>> + Send + 'static,
    Next<Out>: From<S>,
    S: 'static,
{
    let app = Arc::clone(app);
    layer_fn(move |inner: S| {
        let (app, next) = (Arc::clone(&app), Next::<Out>::from(inner));
        Next::new(service_fn(move |input: In| run(Arc::clone(&app), input, next.clone())))
    })
}

fn outermost<E, Fut>(
    app: &Arc<App>,
    run: fn(Arc<App>, Request<Incoming>, Inner<E>) -> Fut,
) -> impl Layer<Inner<E>, Service = Front> + use<E, Fut>
where
    E: 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    let app = Arc::clone(app);
    layer_fn(move |inner: Inner<E>| {
        let app = Arc::clone(&app);
        Front::new(service_fn(move |request: Request<Incoming>| {
            let answer = run(Arc::clone(&app), request, inner.clone());
            async move { Ok(answer.await) }
        }))
    })
}

fn last<In, Fut>(app: &Arc<App>, run: fn(Arc<App>, In) -> Fut) -> Next<In>
where
    In: Send + 'static,
    Fut: Future<Output = Result<Answer, Refused>> + Send + 'static,
{
    let app = Arc::clone(app);
    Next::new(service_fn(move |input: In| run(Arc::clone(&app), input)))
}
