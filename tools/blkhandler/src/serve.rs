//! `POST /submit`: the checks before a share is looked at, in the order of spec 05, 10.1, and the
//! reply.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use http_body_util::BodyExt as _;
use packetcrypt_node::Node;
use packetcrypt_proto::address;
use packetcrypt_proto::events::ShareEvent;
use packetcrypt_proto::headers;
use packetcrypt_proto::reply::Reply;
use packetcrypt_proto::share::{ShareRejection, ShareUpload, ShareWarning, UPLOAD_BYTES_MAX};
use tokio::sync::Semaphore;

use crate::handler::{Handler, Taken};
use crate::refusal::Refusal;
use crate::stats::Outcome;

/// What is still read of a body that is too big, so that the miner sees the refusal and not a reset
/// connection.
const DRAIN_BYTES_MAX: usize = 4 << 20;
/// Length of the address in an event. Any real one has at most 64 characters.
const PAY_TO_BYTES_MAX: usize = 1024;

/// What requests are answered from.
pub(crate) struct Service<N> {
    pub(crate) handler: Arc<Handler<N>>,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) body_time: Duration,
}

/// The one route of a block handler.
pub(crate) fn router<N: Node>(service: Arc<Service<N>>) -> Router {
    Router::new().fallback(answer::<N>).with_state(service)
}

async fn answer<N: Node>(State(service): State<Arc<Service<N>>>, request: Request) -> Response {
    let handler = service.handler.clone();
    let counters = &handler.counters;
    let path_is_submit = request.uri().path_and_query().is_some_and(|path| path == "/submit");
    let is_share = path_is_submit && request.method() == Method::POST;
    if is_share {
        counters.received.inc();
    }
    let count = |outcome| {
        if is_share {
            counters.count(outcome);
        }
    };
    if handler.works.borrow().announced.is_none() {
        count(Outcome::Failed);
        return plain(&ShareRejection::NotReady);
    }
    let overloaded = || {
        count(Outcome::Crowded);
        plain(&ShareRejection::Overloaded)
    };
    if service.slots.available_permits() == 0 {
        return overloaded();
    }
    if !path_is_submit {
        return reply(StatusCode::NOT_FOUND, r#"{"error":"not found"}"#);
    }
    if !is_share {
        return reply(StatusCode::METHOD_NOT_ALLOWED, Body::empty());
    }
    let sender = Sender::of(request.headers());
    let body = read_body(request.into_body(), service.body_time).await;
    // A slot is for a share that is there: bodies that crawl must not keep the others out. How many
    // may crawl is bounded by the connections.
    let Ok(slot) = service.slots.clone().try_acquire_owned() else { return overloaded() };
    // A task of its own: when the miner goes away in the middle, the share in hand, which may be a
    // block, is taken to its end. The slot goes with it.
    let pay_to = sender.pay_to.clone();
    let task = {
        let handler = handler.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let outcome = take(&handler, body, &pay_to).await;
            handler.counters.count(match &outcome {
                Ok(taken) => taken.outcome,
                Err(refusal) => refusal.outcome(),
            });
            outcome
        })
    };
    match task.await {
        Ok(outcome) => sender.reply_to(outcome),
        Err(e) => {
            tracing::error!("the task of a share ended: {e}");
            reply(StatusCode::INTERNAL_SERVER_ERROR, Body::empty())
        }
    }
}

async fn take<N: Node>(
    handler: &Handler<N>,
    body: Result<Bytes, Refusal>,
    pay_to: &str,
) -> Result<Taken, Refusal> {
    let upload = ShareUpload::parse(&body?)?;
    if pay_to.len() > PAY_TO_BYTES_MAX {
        return Err(Refusal::PayToTooLong);
    }
    handler.take(upload, pay_to).await
}

/// The whole body, within its bounds of length and time.
async fn read_body(body: Body, time: Duration) -> Result<Bytes, Refusal> {
    let deadline = tokio::time::Instant::now() + time;
    let mut body = body;
    let mut bytes = Vec::new();
    let mut drained = 0;
    loop {
        let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) if drained == 0 => return Ok(bytes.into()),
            Ok(None) => return Err(ShareRejection::TooBig.into()),
            Ok(Some(Err(_))) | Err(_) if drained == 0 => return Err(Refusal::BodyLost),
            Ok(Some(Err(_))) | Err(_) => return Err(ShareRejection::TooBig.into()),
        };
        let Some(part) = frame.data_ref() else { continue };
        if drained > 0 || bytes.len() + part.len() > UPLOAD_BYTES_MAX {
            drained += part.len();
            if drained > DRAIN_BYTES_MAX {
                return Err(ShareRejection::TooBig.into());
            }
        } else {
            bytes.extend_from_slice(part);
        }
    }
}

/// Who sent a share, as far as it matters for the reply.
struct Sender {
    pay_to: String,
    warnings: Vec<String>,
}

impl Sender {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| {
            let value = headers.get(name).map(|value| value.as_bytes()).unwrap_or_default();
            String::from_utf8_lossy(value).into_owned()
        };
        let pay_to = text(headers::PAY_TO);
        let mut warnings = Vec::new();
        if !address::is_valid_pay_to(&pay_to) {
            warnings.push(ShareWarning::Address(pay_to.clone()).to_string());
        }
        if text(headers::SOFTWARE_VERSION).is_empty() {
            warnings.push(ShareWarning::OutOfDate.to_string());
        }
        Self { pay_to, warnings }
    }

    fn reply_to(self, outcome: Result<Taken, Refusal>) -> Response {
        let mut warnings = self.warnings;
        match outcome {
            Ok(taken) => {
                warnings.extend(taken.warning.map(str::to_owned));
                let body = Reply::ok(taken.event).with_warnings(warnings).to_json();
                reply(StatusCode::OK, body)
            }
            Err(refusal) => {
                let status = StatusCode::from_u16(refusal.status())
                    .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let body = Reply::<ShareEvent>::failed(refusal.to_string());
                reply(status, body.with_warnings(warnings).to_json())
            }
        }
    }
}

fn plain(rejection: &ShareRejection) -> Response {
    let status =
        StatusCode::from_u16(rejection.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply(status, rejection.to_string())
}

/// A reply without a content type, as the reference's (spec 05, 2.5).
fn reply(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
}
