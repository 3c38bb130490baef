//! A headless Chromium, steered by WebDriver: as much of the protocol as the tests need.

use std::{
    panic::{AssertUnwindSafe, resume_unwind},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use utxoiq_store_testkit::ports::free_port;

use crate::support::Service;

/// How large the screen is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    Desk,
    Phone,
}

/// Which colours are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    Light,
    Dark,
}

/// A browser of one session.
pub struct Browser {
    client: reqwest::Client,
    /// The address of the session.
    session: String,
    screen: Screen,
    look: Look,
    has_script: bool,
    _driver: Child,
    _profile: TempDir,
}

const MISSING: &str = "this test drives a real browser and found no chromedriver: install Debian's packages chromium and \
    chromium-driver, or let ./dev test do it";

impl Browser {
    /// Does something with a browser, which ends with it, also where it fails.
    pub async fn run(screen: Screen, look: Look, has_script: bool, work: impl AsyncFnOnce(&Self)) {
        utxoiq_store::tls::use_ring();
        let browser = Self::begin(screen, look, has_script).await;
        let ended = AssertUnwindSafe(work(&browser)).catch_unwind().await;
        let quit = browser.client.delete(&browser.session).send();
        let _ = tokio::time::timeout(Duration::from_secs(10), quit).await;
        if let Err(panic) = ended {
            resume_unwind(panic);
        }
    }

    async fn begin(screen: Screen, look: Look, has_script: bool) -> Self {
        let port = free_port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let driver = driver.unwrap_or_else(|error| panic!("{MISSING} ({error})"));
        let (client, profile) = (reqwest::Client::new(), TempDir::new().unwrap());
        let base = format!("http://127.0.0.1:{port}");
        let began = Instant::now();
        while client.get(format!("{base}/status")).send().await.is_err() {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "chromedriver does not answer"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let body = capabilities(profile.path(), has_script);
        let answer = client
            .post(format!("{base}/session"))
            .json(&body)
            .send()
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        let id = answer["value"]["sessionId"].as_str();
        let id = id.unwrap_or_else(|| panic!("Chromium does not start: {answer}"));
        let session = format!("{base}/session/{id}");
        let browser = Self {
            client,
            session,
            screen,
            look,
            has_script,
            _driver: driver,
            _profile: profile,
        };
        browser.prepare().await;
        browser
    }

    async fn prepare(&self) {
        let (width, height) = self.size();
        let is_phone = self.screen == Screen::Phone;
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)
            .await;
        let scheme = if self.look == Look::Dark {
            "dark"
        } else {
            "light"
        };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features}))
            .await;
    }

    fn size(&self) -> (u32, u32) {
        match self.screen {
            Screen::Desk => (1_440, 900),
            Screen::Phone => (390, 844),
        }
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self
            .client
            .post(format!("{}/{path}", self.session))
            .json(&body)
            .send()
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert!(
            answer["value"]["error"].is_null(),
            "{path} {body}: {}",
            answer["value"]["message"]
        );
        answer["value"].clone()
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post(
            "goog/cdp/execute",
            json!({"cmd": command, "params": parameters}),
        )
        .await
    }

    /// Goes to an address.
    pub async fn open(&self, address: &str) {
        self.post("url", json!({"url": address})).await;
    }

    /// Where it is.
    pub async fn address(&self) -> String {
        let answer = self
            .client
            .get(format!("{}/url", self.session))
            .send()
            .await
            .unwrap();
        answer.json::<Value>().await.unwrap()["value"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Waits until it is at an address with a certain part.
    pub async fn arrives(&self, part: &str, within: Duration) {
        let began = Instant::now();
        loop {
            let address = self.address().await;
            if address.contains(part) {
                return;
            }
            assert!(began.elapsed() < within, "at {address}, not at {part}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs a script on the page.
    pub async fn script(&self, script: &str) -> Value {
        self.post("execute/sync", json!({"script": script, "args": []}))
            .await
    }

    /// The element at an XPath, which comes within a moment.
    async fn element(&self, xpath: &str) -> String {
        let began = Instant::now();
        loop {
            let body = json!({"using": "xpath", "value": xpath});
            let answer = self
                .client
                .post(format!("{}/elements", self.session))
                .json(&body)
                .send();
            let answer: Value = answer.await.unwrap().json().await.unwrap();
            let first = answer["value"].get(0).and_then(Value::as_object);
            if let Some(id) = first.and_then(|element| element.values().next()?.as_str()) {
                return id.to_owned();
            }
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "there is no {xpath} at {}",
                self.address().await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Clicks on something. A section may be replaced between finding and clicking: then it is looked for again.
    pub async fn click(&self, xpath: &str) {
        let began = Instant::now();
        loop {
            let element = self.element(xpath).await;
            let address = format!("{}/element/{element}/click", self.session);
            let answer = self
                .client
                .post(address)
                .json(&json!({}))
                .send()
                .await
                .unwrap();
            let answer: Value = answer.json().await.unwrap();
            if answer["value"]["error"].is_null() {
                return;
            }
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "{xpath}: {answer}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Writes into a field.
    pub async fn write(&self, xpath: &str, text: &str) {
        let element = self.element(xpath).await;
        self.post(&format!("element/{element}/value"), json!({"text": text}))
            .await;
    }

    /// Waits until the page says something.
    pub async fn sees(&self, text: &str, within: Duration) {
        let began = Instant::now();
        loop {
            let body = self.element("//body").await;
            let answer = self
                .client
                .get(format!("{}/element/{body}/text", self.session))
                .send()
                .await;
            let answer: Value = answer.unwrap().json().await.unwrap();
            if answer["value"]
                .as_str()
                .is_some_and(|page| page.contains(text))
            {
                return;
            }
            assert!(
                began.elapsed() < within,
                "no {text:?} on {}: {answer}",
                self.address().await
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Logs in on the page that is open.
    pub async fn log_in_here(&self, token: &str) {
        self.write("//input[@name='token']", token).await;
        self.click("//button[text()='Log in']").await;
        self.element("//main[@id='main']").await;
    }

    /// Logs in.
    pub async fn log_in(&self, service: &Service) {
        self.open(&service.url("/login")).await;
        self.log_in_here(service.token()).await;
    }

    async fn press(&self, key: &str) {
        let keys = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": keys}]});
        self.post("actions", actions).await;
    }

    /// Presses Tab.
    pub async fn press_tab(&self) {
        self.press("\u{e004}").await;
    }

    /// Presses Enter.
    pub async fn press_enter(&self) {
        self.press("\u{e007}").await;
    }

    /// The words of what has the focus.
    pub async fn focused(&self) -> String {
        let text = self
            .script("return document.activeElement.textContent")
            .await;
        text.as_str().unwrap_or_default().trim().to_owned()
    }

    /// Checks what holds for every page: it has a heading and its landmarks, names itself and its product, fits on the screen,
    /// has a name for each thing that can be used, and text that can be read on its ground.
    pub async fn is_a_page(&self, name: &str) {
        let found = self.script(include_str!("look.js")).await;
        let complaints = found.as_array().unwrap();
        assert!(
            complaints.is_empty(),
            "{name}, {:?}, {:?}: {found}",
            self.screen,
            self.look
        );
    }

    /// Checks that nothing was asked of any other host.
    pub async fn asked_only(&self, base: &str) {
        let mut asked = 0;
        for entry in self.log("performance").await {
            let message: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            if message["message"]["method"] != "Network.requestWillBeSent" {
                continue;
            }
            let address = message["message"]["params"]["request"]["url"]
                .as_str()
                .unwrap();
            // What the browser shows by itself before the first page is no request of ours.
            let is_own = ["data:", "chrome:", "about:"]
                .iter()
                .any(|scheme| address.starts_with(scheme));
            assert!(address.starts_with(base) || is_own, "it asked {address}");
            asked += 1;
        }
        assert!(asked > 10, "only {asked} requests were seen");
    }

    /// Checks that the browser had nothing to say.
    pub async fn has_no_complaint(&self) {
        let said = self.log("browser").await;
        let grave: Vec<&Value> = said
            .iter()
            .filter(|entry| entry["level"] != "DEBUG" && entry["level"] != "INFO")
            .collect();
        assert!(grave.is_empty(), "{grave:?}");
    }

    async fn log(&self, kind: &str) -> Vec<Value> {
        self.post("se/log", json!({"type": kind}))
            .await
            .as_array()
            .unwrap()
            .clone()
    }

    /// Keeps a picture of the whole page, where pictures are wanted.
    pub async fn picture(&self, name: &str) {
        if std::env::var_os("UTXOIQ_SCREENSHOTS").is_none() || !self.has_script {
            return;
        }
        // What follows what changes has come.
        tokio::time::sleep(Duration::from_millis(700)).await;
        let height = self
            .script("return document.documentElement.scrollHeight")
            .await;
        let (width, least) = self.size();
        let height = height
            .as_u64()
            .unwrap_or_default()
            .clamp(least.into(), 4_000);
        let clip = json!({"x": 0, "y": 0, "width": width, "height": height, "scale": 1});
        let taken = self
            .devtools(
                "Page.captureScreenshot",
                json!({"captureBeyondViewport": true, "clip": clip}),
            )
            .await;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        let file =
            folder.join(format!("{name}-{:?}-{:?}.png", self.screen, self.look).to_lowercase());
        std::fs::write(file, decoded(taken["data"].as_str().unwrap())).unwrap();
    }
}

/// Base64, as the browser writes it.
fn decoded(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let sextets: Vec<u32> = text
        .bytes()
        .filter(|byte| *byte != b'=')
        .map(value)
        .collect();
    let bytes = sextets.chunks(4).flat_map(|chunk| {
        let bits =
            chunk.iter().fold(0, |bits, sextet| bits << 6 | sextet) << (6 * (4 - chunk.len()));
        bits.to_be_bytes().into_iter().skip(1).take(chunk.len() - 1)
    });
    bytes.collect()
}

fn capabilities(profile: &Path, has_script: bool) -> Value {
    let mut arguments = vec![
        "--headless".to_owned(),
        "--no-sandbox".to_owned(),
        "--disable-gpu".to_owned(),
        "--disable-quic".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--no-first-run".to_owned(),
        "--no-default-browser-check".to_owned(),
        "--disable-background-networking".to_owned(),
        "--disable-component-update".to_owned(),
        "--disable-sync".to_owned(),
        "--hide-scrollbars".to_owned(),
        format!("--user-data-dir={}", profile.display()),
    ];
    if !has_script {
        arguments.push("--blink-settings=scriptEnabled=false".to_owned());
    }
    json!({"capabilities": {"alwaysMatch": {
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        "goog:chromeOptions": {"args": arguments},
    }}})
}
