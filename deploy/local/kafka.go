package local

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
)

const (
	kafkaVersion = "4.3.0"
	// kafkaJarsSHA256 is the SHA-256 over the lines "<sha256 of the jar>  <name>\n" of all jars, by name: what
	// sha256sum *.jar | sha256sum prints.
	kafkaJarsSHA256 = "4b58233fe5c9d47df367ee75651fc49061719bec8b19c2bcc0e32ffd516081ae"
	// messageMaxBytes bounds one batch of both Kafkas; blocks of entries and postings must fit.
	messageMaxBytes = 16 << 20
	installKafka    = "install a JDK 17 or newer and Maven (Debian: openjdk-17-jre-headless and maven), or use the embedded Kafka"
)

// kafkaPOM names the broker and a binding for its logging, without which it says nothing, not even why it ended.
const kafkaPOM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>com.github.tollgate</groupId><artifactId>local-kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>` + kafkaVersion + `</version></dependency>
    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.24.3</version></dependency>
  </dependencies>
</project>
`

const kafkaLogging = `Configuration:
  status: error
  Appenders:
    Console: {name: out, PatternLayout: {pattern: "%d %p %c{1} %m%n"}}
  Loggers:
    Root: {level: warn, AppenderRef: {ref: out}}
`

// kafkaFlags suit a small machine: one collector thread and the fast compiler only.
var kafkaFlags = []string{"-Xms512m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError", "-XX:-UsePerfData"}

// kafkaOwnPorts are those of the clients and of the controller; behind them come the ports behind proxies.
const kafkaOwnPorts = 2

// apacheKafka finds Apache Kafka and gives it a listener for each of the proxies in front of it.
func apacheKafka(proxies []string) recipe {
	return func(ctx context.Context, c *cache) (found, error) { return findApacheKafka(ctx, c, proxies) }
}

func findApacheKafka(ctx context.Context, c *cache, proxies []string) (found, error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return found{}, fmt.Errorf("apache kafka cannot be had: java is not on PATH; %s", installKafka)
	}
	jars, err := c.folder(ctx, "kafka-"+kafkaVersion, func(ctx context.Context, dir string) error { return fetchKafka(ctx, c, dir) })
	if err != nil {
		return found{}, fmt.Errorf("apache kafka cannot be had: %w; %s", err, installKafka)
	}
	return found{about: fmt.Sprintf("using Apache Kafka %s in %s", kafkaVersion, java), ports: kafkaOwnPorts + len(proxies), open: 1,
		configure: func(ctx context.Context, dir string, ports []int) (program, error) {
			return configureKafka(ctx, java, jars, dir, ports, proxies)
		}}, nil
}

func fetchKafka(ctx context.Context, c *cache, dir string) error {
	if _, err := exec.LookPath("mvn"); err != nil {
		return errors.New("mvn is not on PATH to fetch its jars")
	}
	pom, err := writeConfig(dir, "pom.xml", kafkaPOM)
	if err != nil {
		return err
	}
	output := &toolOutput{}
	what := fmt.Sprintf("apache kafka: fetching %s with mvn (46 jars of 43 MB, and what mvn itself needs)", kafkaVersion)
	err = c.progress(what, func() string { return downloaded(output) }, func() error {
		return run(ctx, dir, output, "mvn", "-B", "-f", pom, "dependency:copy-dependencies", "-DoutputDirectory="+dir, "-DincludeScope=runtime")
	})
	if err != nil {
		return err
	}
	sum, err := sumJars(dir)
	if err == nil && sum != kafkaJarsSHA256 {
		err = fmt.Errorf("the fetched jars have SHA-256 %s instead of %s", sum, kafkaJarsSHA256)
	}
	return err
}

// downloaded counts the files that mvn says it has fetched.
func downloaded(output *toolOutput) string {
	return strconv.Itoa(output.count("Downloaded from")) + " files downloaded"
}

func sumJars(dir string) (string, error) {
	jars, err := filepath.Glob(filepath.Join(dir, "*.jar")) // in order
	if err != nil {
		return "", err
	}
	all := sha256.New()
	for _, jar := range jars {
		file, err := os.Open(jar)
		if err != nil {
			return "", fmt.Errorf("cannot check a jar: %w", err)
		}
		one := sha256.New()
		_, err = io.Copy(one, file)
		file.Close()
		if err != nil {
			return "", fmt.Errorf("cannot check %s: %w", jar, err)
		}
		fmt.Fprintf(all, "%x  %s\n", one.Sum(nil), filepath.Base(jar))
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

func configureKafka(ctx context.Context, java, jars, dir string, ports []int, proxies []string) (program, error) {
	logging, err := writeConfig(dir, "log4j2.yaml", kafkaLogging)
	if err != nil {
		return program{}, err
	}
	data := filepath.Join(dir, "data")
	config, err := writeConfig(dir, "server.properties", kafkaProperties(data, ports, proxies))
	if err != nil {
		return program{}, err
	}
	args := append([]string{"-Dlog4j2.configurationFile=" + logging, "-cp", filepath.Join(jars, "*")}, kafkaFlags...)
	if _, err := os.Stat(filepath.Join(data, "meta.properties")); err != nil {
		format := append(args[:len(args):len(args)], "kafka.tools.StorageTool", "format", "--standalone", "-t", newClusterID(), "-c", config)
		if err := run(ctx, dir, &toolOutput{}, java, format...); err != nil {
			return program{}, fmt.Errorf("cannot format the data folder of apache kafka: %w", err)
		}
	}
	return program{path: java, args: append(args, "kafka.Kafka", config),
		ready: func(ctx context.Context) error { return askKafka(ctx, ports[0]) }}, nil
}

// kafkaProperties configures one node that is broker and controller, with everything that is replicated elsewhere held once.
// The controller lets a broker that was killed in again only when its old session is over: 9 s by default, here 6.
// A listener behind a proxy sends its clients to the proxy: where a client connects next is what the broker advertises.
func kafkaProperties(data string, ports []int, proxies []string) string {
	broker, controller := loopback(ports[0]), loopback(ports[1])
	var behind, advertised, protocols string
	for i, proxy := range proxies {
		name := "PROXY" + strconv.Itoa(i)
		behind += "," + name + "://" + loopback(ports[kafkaOwnPorts+i])
		advertised += "," + name + "://" + proxy
		protocols += "," + name + ":PLAINTEXT"
	}
	return `process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=` + controller + `
listeners=PLAINTEXT://` + broker + `,CONTROLLER://` + controller + behind + `
advertised.listeners=PLAINTEXT://` + broker + advertised + `
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT` + protocols + `
inter.broker.listener.name=PLAINTEXT
log.dirs=` + data + `
log.message.timestamp.type=LogAppendTime
message.max.bytes=` + strconv.Itoa(messageMaxBytes) + `
auto.create.topics.enable=false
num.partitions=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=500
log.cleaner.dedupe.buffer.size=2097152
`
}

// newClusterID is 16 random bytes in base64, of which the first letter is none that reads as an option.
func newClusterID() string {
	var id [16]byte
	rand.Read(id[:])
	id[0] &= 0x7f
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// askKafka asks for the API versions and for the live brokers: a broker that is not in service yet does not list itself.
func askKafka(ctx context.Context, port int) error {
	conn, err := kafka.DialContext(ctx, "tcp", loopback(port))
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.ApiVersions(); err != nil {
		return err
	}
	brokers, err := conn.Brokers()
	if err == nil && len(brokers) == 0 {
		err = errors.New("the broker is not in service yet")
	}
	return err
}

func findEmbeddedKafka(ctx context.Context, c *cache) (found, error) {
	engine, err := findEngine(ctx, c)
	if err != nil {
		return found{}, fmt.Errorf("embedded kafka cannot be had: %w", err)
	}
	return found{about: "using kfake in " + engine, ports: 1, open: 1, configure: func(_ context.Context, dir string, ports []int) (program, error) {
		job := engineJob{Engine: EmbeddedKafka, Dir: filepath.Join(dir, "data"), Ports: ports}
		return job.program(engine, func(ctx context.Context) error { return askKafka(ctx, ports[0]) })
	}}, nil
}
