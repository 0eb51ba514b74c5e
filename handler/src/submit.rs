//! One request: `POST /submit` from its head to its reply, and the downloads beside it.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use packetcrypt_net::Clock;
use packetcrypt_net::engine::Engine;
use packetcrypt_net::http1::{BodyError, Request, Response, Service};
use packetcrypt_net::{Shutdown, http1};
use packetcrypt_proto::address;
use packetcrypt_proto::events::AnnsEvent;
use packetcrypt_proto::reply::Reply;

use crate::admit::{Head, Overload, Parent, Refusal};
use crate::body::{Body, BodyMemory};
use crate::download::{Conditions, Download, IndexText, Served, ServedBody};
use crate::overload::Budgets;
use crate::parents::Parents;
use crate::post::Post;
use crate::publish::Reader;
use crate::queue::PostQueue;
use crate::stats::Counters;

/// Where announcements are posted (spec 05, 6.1).
const SUBMIT_PATH: &str = "/submit";

/// What executors, workers and the committer share.
#[derive(Debug)]
pub(crate) struct Front {
    /// The parent blocks.
    pub(crate) parents: Arc<Parents>,
    /// The counters.
    pub(crate) counters: Arc<Counters>,
    /// The way to the workers.
    pub(crate) queue: Arc<PostQueue>,
    /// Memory for bodies.
    pub(crate) bodies: Arc<BodyMemory>,
    /// The budgets of the sources.
    pub(crate) budgets: Budgets,
    /// Who may download; empty: everybody.
    pub(crate) downloaders: HashSet<IpAddr>,
    /// Published announcements.
    pub(crate) reader: Reader,
    /// The clock.
    pub(crate) clock: Arc<dyn Clock>,
    /// Announcements in a post.
    pub(crate) post_anns_max: usize,
    /// Ends long polls.
    pub(crate) shutdown: Shutdown,
}

/// Answers the requests of one executor.
#[derive(Debug)]
pub(crate) struct FrontService<E> {
    /// What it shares with the others.
    pub(crate) front: Arc<Front>,
    /// Its executor.
    pub(crate) engine: E,
    /// The index of the files.
    pub(crate) index: IndexText,
}

/// A body that was not received.
enum NoBody {
    Refused(Refusal),
    Broken(BodyError),
}

impl<E: Engine> Service<E> for FrontService<E> {
    async fn call(&self, request: &mut Request<'_, E>) -> Response {
        match request.head.method() {
            "POST" if request.head.path() == SUBMIT_PATH => self.front.submit(request).await,
            "POST" => Response::text(404, "Not found"),
            "GET" | "HEAD" => match Download::parse(request.head.target()) {
                Some(_) if !self.front.may_download(request.peer.ip()) => {
                    self.front.counters.downloads_refused.inc();
                    Response::text(403, "downloads are not for your address")
                }
                Some(download) => self.download(download, &request.head).await,
                None => Response::text(405, "HTTP method not allowed"),
            },
            _ => Response::text(405, "HTTP method not allowed"),
        }
    }
}

impl<E: Engine> FrontService<E> {
    async fn download(&self, download: Download, head: &http1::Head) -> Response {
        let conditions = Conditions {
            range: head.field_text("range"),
            if_range: head.field_text("if-range"),
            if_none_match: head.field_text("if-none-match"),
        };
        if !download.wait().is_zero() {
            self.wait_for_news(&download, conditions).await;
        }
        self.front.respond(download.serve(&self.front.reader, &self.index, conditions))
    }

    /// Waits until the answer is worth giving, or its time is over.
    async fn wait_for_news(&self, download: &Download, conditions: Conditions<'_>) {
        let mut reader = self.front.reader.clone();
        let news = async {
            // Seen before looking: what is published in between ends the wait.
            reader.mark_seen();
            while download.should_wait(&reader, conditions) {
                let goes_on = tokio::select! {
                    changed = reader.changed() => changed,
                    () = self.front.shutdown.cancelled() => false,
                };
                if !goes_on {
                    break;
                }
            }
        };
        // At the end of the time the answer is what there is.
        let _ = self.engine.timeout(download.wait(), news).await;
    }
}

impl Front {
    fn may_download(&self, peer: IpAddr) -> bool {
        self.downloaders.is_empty() || self.downloaders.contains(&peer.to_canonical())
    }

    async fn submit<E: Engine>(&self, request: &mut Request<'_, E>) -> Response {
        let (head, parent) = match self.admit(request) {
            Ok(admitted) => admitted,
            Err(refusal) => return self.refuse_head(&refusal),
        };
        let coming = self.queue.expect();
        let bounded = self.budgets.bounded_source(request.peer.ip());
        let body = match self.receive(bounded, &mut request.body).await {
            Ok(body) => body,
            Err(NoBody::Refused(refusal)) => return self.refuse_head(&refusal),
            Err(NoBody::Broken(error)) => return error.response(),
        };
        let warnings = warnings(&head.pay_to);
        let counters = Arc::clone(&self.counters);
        let (post, answer) = Post::new(head, parent, body, request.peer.ip(), counters);
        self.queue.push(post);
        drop(coming);
        // A post that is dropped without an answer: the handler is ending.
        match answer.await.unwrap_or(Err(Refusal::Disconnected)) {
            Ok(event) => {
                let reply = Reply::ok(event).with_warnings(warnings);
                Response::json(200, reply.to_ann_json())
            }
            Err(refusal) => refused(&refusal, warnings),
        }
    }

    /// What can be said before the body: cheap checks first.
    fn admit<E: Engine>(&self, request: &Request<'_, E>) -> Result<(Head, Arc<Parent>), Refusal> {
        let head = Head::parse(|name| request.head.field(name))?;
        if !self.budgets.admit(request.peer.ip(), self.clock.now_ms()) {
            return Err(Refusal::OverBudget);
        }
        let parent = head.admit(self.parents.slot(head.slot()).as_ref())?;
        match request.body.declared_bytes() {
            Some(bytes) if bytes > self.body_bytes_max() as u64 => {
                return Err(Refusal::TooBig(self.post_anns_max));
            }
            Some(bytes)
                if bytes == 0 || bytes % packetcrypt_proto::ANNOUNCEMENT_BYTES as u64 != 0 =>
            {
                return Err(Refusal::BadSize);
            }
            _ => {}
        }
        if self.queue.is_full() {
            return Err(Refusal::Overloaded(Overload::Queue));
        }
        Ok((head, parent))
    }

    async fn receive<E: Engine>(
        &self,
        source: Option<IpAddr>,
        from: &mut http1::Body<'_, E>,
    ) -> Result<Body, NoBody> {
        let mut body = Body::new(&self.bodies, source);
        loop {
            if body.room().is_empty() {
                if from.is_at_end().await.map_err(NoBody::Broken)? {
                    return Ok(body);
                }
                if body.is_at_its_bound() {
                    return Err(NoBody::Refused(Refusal::TooBig(self.post_anns_max)));
                }
                body.grow().map_err(|full| NoBody::Refused(Refusal::Overloaded(full)))?;
            }
            let room = body.room();
            let wanted = room.len();
            let received = from.read(room).await.map_err(NoBody::Broken)?;
            body.filled(received);
            if received < wanted {
                return Ok(body);
            }
        }
    }

    fn body_bytes_max(&self) -> usize {
        self.post_anns_max * packetcrypt_proto::ANNOUNCEMENT_BYTES
    }

    fn refuse_head(&self, refusal: &Refusal) -> Response {
        self.counters.refused_because(refusal);
        if refusal.status() == 503 {
            self.counters.heads_overloaded.inc();
        } else {
            self.counters.heads_refused.inc();
        }
        refused(refusal, Vec::new())
    }

    fn respond(&self, served: Served) -> Response {
        let mut response = Response::new(served.status);
        for (name, value) in served.headers {
            response = response.with_field(name, value);
        }
        match served.body {
            ServedBody::Text(text) => response.with_body(text),
            ServedBody::Bytes(bytes) => {
                let bytes = Bytes::from_owner(bytes);
                self.counters.downloads.inc();
                self.counters.bytes_downloaded.inc_by(bytes.len() as u64);
                response.with_body(bytes)
            }
        }
    }
}

fn refused(refusal: &Refusal, warnings: Vec<String>) -> Response {
    if refusal.is_plain_text() {
        return Response::text(refusal.status(), refusal.to_string());
    }
    let reply = Reply::<AnnsEvent>::failed(refusal.to_string()).with_warnings(warnings);
    Response::json(refusal.status(), reply.to_ann_json())
}

/// What the miner's operator should know although the post may be accepted (spec 05, 2.4): a
/// typing error in the address.
fn warnings(pay_to: &str) -> Vec<String> {
    if address::is_valid_pay_to(pay_to) {
        return Vec::new();
    }
    vec![format!("Address [{pay_to}] is not a valid pkt address, WORK WILL NOT BE CREDITED")]
}
