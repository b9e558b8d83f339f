// nacos-sdk-go/v2 against three nodes: client HOST:PORT HOST:PORT HOST:PORT
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nacos-group/nacos-sdk-go/v2/clients"
	"github.com/nacos-group/nacos-sdk-go/v2/clients/config_client"
	"github.com/nacos-group/nacos-sdk-go/v2/common/constant"
	"github.com/nacos-group/nacos-sdk-go/v2/vo"
)

const (
	group = "DEFAULT_GROUP"
	soon  = 15 * time.Second
	text  = "name=café & 测试\nrate=50%+1 =?#\ttab\n😀"
)

var made int

func client(servers []string, namespace string) config_client.IConfigClient {
	made++
	var configs []constant.ServerConfig
	for _, server := range servers {
		host, port, _ := strings.Cut(server, ":")
		number, _ := strconv.ParseUint(port, 10, 64)
		configs = append(configs, *constant.NewServerConfig(host, number))
	}
	here := fmt.Sprintf("client-%d", made)
	config := constant.NewClientConfig(
		constant.WithNamespaceId(namespace),
		constant.WithTimeoutMs(5000),
		constant.WithNotLoadCacheAtStart(true),
		constant.WithLogDir(here+"/log"),
		constant.WithCacheDir(here+"/cache"),
	)
	made, err := clients.NewConfigClient(vo.NacosClientParam{ClientConfig: config, ServerConfigs: configs})
	must(err)
	return made
}

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func expect(what string, found, wanted any) {
	if found != wanted {
		fmt.Printf("%s: found %.300v\n", what, found)
		os.Exit(1)
	}
	fmt.Printf("%s: ok\n", what)
}

func reads(used config_client.IConfigClient, dataID, wanted string) {
	var found string
	for tries := 0; tries < 100; tries++ {
		found, _ = used.GetConfig(vo.ConfigParam{DataId: dataID, Group: group})
		if found == wanted {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	expect("read of "+dataID, found, wanted)
}

func publish(used config_client.IConfigClient, what, dataID, content string) {
	done, err := used.PublishConfig(vo.ConfigParam{DataId: dataID, Group: group, Content: content})
	must(err)
	expect(what, done, true)
}

func hear(heard chan string, what, wanted string) {
	select {
	case found := <-heard:
		expect(what, found, wanted)
	case <-time.After(soon):
		expect(what, "nothing", wanted)
	}
}

func round(publisher, reader, listener config_client.IConfigClient, dataID string) {
	heard := make(chan string, 100)
	must(listener.ListenConfig(vo.ConfigParam{DataId: dataID, Group: group,
		OnChange: func(_, _, _, content string) { heard <- content }}))
	time.Sleep(time.Second)
	publish(publisher, "publish", dataID, text)
	hear(heard, "heard of the creation", text)
	reads(reader, dataID, text)
	publish(publisher, "the same content", dataID, text)
	for _, content := range []string{"second", "third " + text} {
		publish(publisher, "publish again", dataID, content)
		hear(heard, "heard of the change", content)
	}
	done, err := reader.DeleteConfig(vo.ConfigParam{DataId: dataID, Group: group})
	must(err)
	expect("remove", done, true)
	reads(listener, dataID, "")
	time.Sleep(300 * time.Millisecond)
	expect("nothing was heard twice", len(heard) <= 1, true)
}

func main() {
	servers := os.Args[1:]
	var nodes []config_client.IConfigClient
	for _, server := range servers {
		nodes = append(nodes, client([]string{server}, ""))
	}
	for turn := range len(nodes) {
		round(nodes[turn], nodes[(turn+1)%3], nodes[(turn+2)%3], fmt.Sprintf("go-%d", turn))
	}
	everywhere := client(servers, "")
	round(everywhere, everywhere, everywhere, "go-all")
	large := strings.Repeat("测", 1024*1024/3)
	publish(nodes[0], "publish 1 MiB", "go-large", large)
	found, err := nodes[0].GetConfig(vo.ConfigParam{DataId: "go-large", Group: group})
	must(err)
	expect("read 1 MiB", found == large, true)
	publish(nodes[0], "publish for compare-and-set", "go-cas", "hello")
	cas := vo.ConfigParam{DataId: "go-cas", Group: group, Content: "x", CasMd5: strings.Repeat("0", 32)}
	done, _ := nodes[0].PublishConfig(cas)
	expect("a wrong md5 is refused", done, false)
	cas.CasMd5 = "5d41402abc4b2a76b9719d911017c592"
	done, err = nodes[0].PublishConfig(cas)
	must(err)
	expect("the right md5 is taken", done, true)
	tenant := client(servers[:1], "team-a")
	publish(tenant, "publish in a namespace", "go-ns", "inside")
	reads(tenant, "go-ns", "inside")
	reads(nodes[0], "go-ns", "")
	round(tenant, tenant, tenant, "go-ns-round")
	throughAKill(everywhere)
}

// A client of all nodes loses the one that it is connected to, perhaps.
func throughAKill(used config_client.IConfigClient) {
	heard := make(chan string, 100)
	must(used.ListenConfig(vo.ConfigParam{DataId: "go-kill", Group: group,
		OnChange: func(_, _, _, content string) { heard <- content }}))
	publish(used, "publish", "go-kill", "before")
	hear(heard, "heard before the kill", "before")
	fmt.Println("KILL")
	_, err := bufio.NewReader(os.Stdin).ReadString('\n')
	must(err)
	done := false
	for tries := 0; tries < 60 && !done; tries++ {
		done, _ = used.PublishConfig(vo.ConfigParam{DataId: "go-kill", Group: group, Content: "after"})
		if !done {
			time.Sleep(500 * time.Millisecond)
		}
	}
	expect("publish after the kill", done, true)
	hear(heard, "heard after the kill", "after")
}
