//! An object store that fails, and lies, on demand.
//!
//! It wraps any other. What it does wrong is told request by request ([`FaultyStore::next`]), for all of a kind
//! ([`FaultyStore::always`]), or drawn from a seed ([`FaultyStore::seeded`]), so that a run can be repeated. Everything that it
//! does wrong a real store, or the network before it, has done: an answer that is lost, a success of which nothing is left,
//! bytes that differ.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    future::pending,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use axum::http::Extensions;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, UploadPart, path::Path,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// An object in one request.
    Put,
    /// A part of a multipart upload.
    Part,
    /// The end of a multipart upload.
    Complete,
    /// Bytes of an object.
    Get,
    /// Whether an object is there.
    Head,
    /// The deletion of an object.
    Delete,
    /// A listing.
    List,
}

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails, and nothing happened.
    FailBefore,
    /// It fails, although it was done.
    FailAfter,
    /// It succeeds, and nothing happened.
    Nothing,
    /// It succeeds, with one bit of the bytes changed: those that are stored, or those that are read.
    Flip,
    /// It succeeds, with the last byte missing.
    Truncate,
    /// It succeeds, with no bytes at all.
    Empty,
    /// It is refused, for want of rights (403), and nothing happened.
    Refuse,
    /// It succeeds, with another byte behind the last.
    Append,
    /// It takes so long.
    Slow(Duration),
    /// It is never answered.
    Hang,
}

/// The store.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Default)]
struct Plan {
    next: HashMap<Request, VecDeque<Option<Fault>>>,
    always: HashMap<Request, Fault>,
    drawn: Option<(StdRng, u32, Vec<Fault>)>,
    seen: HashMap<Request, usize>,
    faults: usize,
}

impl FaultyStore {
    /// A store that does what the inner one does, until told otherwise.
    pub fn over(inner: Arc<dyn ObjectStore>) -> Self {
        Self {
            inner,
            plan: Arc::default(),
        }
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens to the next requests of a kind, in order: a fault, or none.
    pub fn next(&self, request: Request, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.plan().next.entry(request).or_default().extend(faults);
    }

    /// What happens to all requests of a kind from now on.
    pub fn always(&self, request: Request, fault: Fault) {
        self.plan().always.insert(request, fault);
    }

    /// Of a thousand requests so many, drawn from the seed, meet one of these faults.
    pub fn seeded(&self, seed: u64, per_mille: u32, faults: &[Fault]) {
        self.plan().drawn = Some((StdRng::seed_from_u64(seed), per_mille, faults.to_vec()));
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        let mut plan = self.plan();
        plan.next.clear();
        plan.always.clear();
        plan.drawn = None;
    }

    /// How many requests of a kind there were.
    pub fn seen(&self, request: Request) -> usize {
        self.plan().seen.get(&request).copied().unwrap_or_default()
    }

    /// How many faults there were.
    pub fn faults(&self) -> usize {
        self.plan().faults
    }

    /// Loses every object that lies here now and whose path holds this text.
    pub async fn lose(&self, text: &str) {
        let objects: Vec<_> = self.inner.list(None).collect().await;
        for object in objects {
            let location = object.expect("the inner store lists").location;
            if location.as_ref().contains(text) {
                self.inner
                    .delete(&location)
                    .await
                    .expect("the inner store deletes");
            }
        }
    }

    /// The fault of a request; waits where that is all that is wrong.
    async fn meet(&self, request: Request) -> Option<Fault> {
        let fault = self.draw(request);
        match fault {
            Some(Fault::Slow(time)) => {
                tokio::time::sleep(time).await;
                None
            }
            Some(Fault::Hang) => pending().await,
            fault => fault,
        }
    }

    fn draw(&self, request: Request) -> Option<Fault> {
        let mut plan = self.plan();
        *plan.seen.entry(request).or_default() += 1;
        let told = plan
            .next
            .get_mut(&request)
            .and_then(VecDeque::pop_front)
            .or_else(|| plan.always.get(&request).copied().map(Some));
        let fault = match (told, &mut plan.drawn) {
            (Some(told), _) => told,
            (None, Some((random, per_mille, faults))) if !faults.is_empty() => {
                let is_hit = random.random_range(0..1_000) < *per_mille;
                let at = random.random_range(0..faults.len());
                is_hit.then(|| faults[at])
            }
            (None, _) => None,
        };
        plan.faults += usize::from(fault.is_some());
        fault
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").finish_non_exhaustive()
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

fn failed() -> Error {
    Error::Generic {
        store: "FaultyStore",
        source: "made to fail".into(),
    }
}

/// What is left of the bytes.
fn spoilt(bytes: &[u8], fault: Fault) -> Bytes {
    let mut bytes = bytes.to_vec();
    match fault {
        Fault::Flip => {
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
            }
        }
        Fault::Truncate => {
            bytes.pop();
        }
        Fault::Empty => bytes.clear(),
        Fault::Append => bytes.push(0),
        _ => {}
    }
    bytes.into()
}

fn gathered(payload: PutPayload) -> Bytes {
    let pieces: Vec<Bytes> = payload.into_iter().collect();
    pieces.concat().into()
}

fn refused(location: &Path) -> Error {
    Error::PermissionDenied {
        path: location.to_string(),
        source: "403".into(),
    }
}

fn nothing_done() -> PutResult {
    PutResult {
        e_tag: Some("\"nothing\"".to_owned()),
        version: None,
        extensions: Extensions::default(),
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        match self.meet(Request::Put).await {
            None => self.inner.put_opts(location, payload, opts).await,
            Some(Fault::FailBefore) => Err(failed()),
            Some(Fault::Refuse) => Err(refused(location)),
            Some(Fault::FailAfter) => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(failed())
            }
            Some(Fault::Nothing) => Ok(nothing_done()),
            Some(fault) => {
                let bytes = spoilt(&gathered(payload), fault);
                self.inner.put_opts(location, bytes.into(), opts).await
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let inner = self.inner.put_multipart_opts(location, opts).await?;
        Ok(Box::new(FaultyUpload {
            store: self.clone(),
            inner,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let request = if options.head {
            Request::Head
        } else {
            Request::Get
        };
        let fault = self.meet(request).await;
        if matches!(fault, Some(Fault::FailBefore | Fault::FailAfter)) {
            return Err(failed());
        }
        if fault == Some(Fault::Refuse) {
            return Err(refused(location));
        }
        let result = self.inner.get_opts(location, options).await?;
        let Some(fault) = fault.filter(|_| request == Request::Get) else {
            return Ok(result);
        };
        let (meta, range, attributes, extensions) = (
            result.meta.clone(),
            result.range.clone(),
            result.attributes.clone(),
            result.extensions.clone(),
        );
        let bytes = spoilt(&result.bytes().await?, fault);
        let payload = futures_util::stream::once(async move { Ok(bytes) }).boxed();
        Ok(GetResult {
            payload: GetResultPayload::Stream(payload),
            meta,
            range,
            attributes,
            extensions,
        })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut pieces = Vec::with_capacity(ranges.len());
        for range in ranges {
            pieces.push(self.get_range(location, range.clone()).await?);
        }
        Ok(pieces)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .then(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    match store.meet(Request::Delete).await {
                        Some(Fault::FailBefore) => Err(failed()),
                        Some(Fault::Refuse) => Err(refused(&location)),
                        Some(Fault::Nothing) => Ok(location),
                        fault => {
                            store.inner.delete(&location).await?;
                            match fault {
                                Some(Fault::FailAfter) => Err(failed()),
                                _ => Ok(location),
                            }
                        }
                    }
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let store = self.clone();
        let listing = self.inner.list(prefix);
        futures_util::stream::once(async move {
            match store.meet(Request::List).await {
                Some(Fault::FailBefore | Fault::FailAfter | Fault::Refuse) => {
                    futures_util::stream::once(async { Err(failed()) }).boxed()
                }
                Some(Fault::Nothing) => futures_util::stream::empty().boxed(),
                _ => listing,
            }
        })
        .flatten()
        .boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.meet(Request::List).await {
            Some(Fault::FailBefore | Fault::FailAfter) => Err(failed()),
            _ => self.inner.list_with_delimiter(prefix).await,
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

struct FaultyUpload {
    store: FaultyStore,
    inner: Box<dyn MultipartUpload>,
}

impl fmt::Debug for FaultyUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyUpload").finish_non_exhaustive()
    }
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let fault = self.store.draw(Request::Part);
        let data = match fault {
            Some(fault @ (Fault::Flip | Fault::Truncate | Fault::Empty | Fault::Append)) => {
                spoilt(&gathered(data), fault).into()
            }
            _ => data,
        };
        match fault {
            Some(Fault::FailBefore | Fault::Refuse) => Box::pin(async { Err(failed()) }),
            Some(Fault::Nothing) => Box::pin(async { Ok(()) }),
            Some(Fault::Hang) => Box::pin(pending()),
            fault => {
                let part = self.inner.put_part(data);
                Box::pin(async move {
                    if let Some(Fault::Slow(time)) = fault {
                        tokio::time::sleep(time).await;
                    }
                    part.await?;
                    match fault {
                        Some(Fault::FailAfter) => Err(failed()),
                        _ => Ok(()),
                    }
                })
            }
        }
    }

    async fn complete(&mut self) -> Result<PutResult> {
        match self.store.meet(Request::Complete).await {
            Some(Fault::FailBefore) => Err(failed()),
            Some(Fault::Nothing) => {
                self.inner.abort().await?;
                Ok(nothing_done())
            }
            fault => {
                let done = self.inner.complete().await?;
                match fault {
                    Some(Fault::FailAfter) => Err(failed()),
                    _ => Ok(done),
                }
            }
        }
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
