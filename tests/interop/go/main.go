// What a service does with configurations, through nacos-sdk-go/v2 (gRPC). Arguments: the addresses
// of the nodes. Prints a line for each case; asks for a node to be killed by the line KILL and goes on
// when it reads a line.
package main

import (
	"bufio"
	"crypto/md5"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nacos-group/nacos-sdk-go/v2/clients"
	"github.com/nacos-group/nacos-sdk-go/v2/clients/config_client"
	"github.com/nacos-group/nacos-sdk-go/v2/common/constant"
	"github.com/nacos-group/nacos-sdk-go/v2/vo"
)

const (
	group = "interop"
	soon  = 45 * time.Second
)

var made, failed int

func check(name string, body func() error) {
	if err := body(); err != nil {
		failed++
		fmt.Printf("FAIL %s: %.300s\n", name, strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	fmt.Println("ok   " + name)
}

func connect(servers []string, namespace string) config_client.IConfigClient {
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
		constant.WithDisableUseSnapShot(true),
		constant.WithLogDir(here+"/log"),
		constant.WithCacheDir(here+"/cache"),
	)
	client, err := clients.NewConfigClient(vo.NacosClientParam{ClientConfig: config, ServerConfigs: configs})
	if err != nil {
		fmt.Println("FAIL connect:", err)
		os.Exit(1)
	}
	return client
}

func publish(used config_client.IConfigClient, dataID, content string) error {
	done, err := used.PublishConfig(vo.ConfigParam{DataId: dataID, Group: group, Content: content})
	if err == nil && !done {
		err = errors.New("publish of " + dataID + ": false")
	}
	return err
}

func remove(used config_client.IConfigClient, dataID string) error {
	done, err := used.DeleteConfig(vo.ConfigParam{DataId: dataID, Group: group})
	if err == nil && !done {
		err = errors.New("removal of " + dataID + ": false")
	}
	return err
}

// Read again until it is so: another node may be a moment behind.
func becomes(used config_client.IConfigClient, dataID, wanted string) error {
	var found string
	for tries := 0; tries < 100; tries++ {
		found, _ = used.GetConfig(vo.ConfigParam{DataId: dataID, Group: group})
		if found == wanted {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("%s is %.80q", dataID, found)
}

func eventually(action func() error) error {
	var err error
	for tries := 0; tries < 20; tries++ {
		if err = action(); err == nil {
			return nil
		}
		time.Sleep(500 * time.Millisecond)
	}
	return err
}

// The first mistake of several steps.
func all(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	nodes := os.Args[1:]
	client, other := connect(nodes, ""), connect(nodes[len(nodes)-1:], "")
	publishes := func(used config_client.IConfigClient, dataID, content string) func() error {
		return func() error { return publish(used, dataID, content) }
	}
	reads := func(used config_client.IConfigClient, dataID, content string) func() error {
		return func() error { return becomes(used, dataID, content) }
	}
	heard := make(chan string, 1000)
	hears := func(wanted string) func() error {
		return func() error {
			for {
				select {
				case found := <-heard:
					if found == wanted {
						return nil
					}
				case <-time.After(soon):
					return errors.New("not heard: " + wanted)
				}
			}
		}
	}
	check("publish, get", func() error {
		for at := range nodes {
			if err := publish(connect(nodes[at:at+1], ""), "plain", nodes[at]); err != nil {
				return err
			}
			if err := all(reads(client, "plain", nodes[at]), reads(other, "plain", nodes[at])); err != nil {
				return err
			}
		}
		return nil
	})
	unicode := "配置 ✓ 😀 \n\t&=+%#\"'<>"
	check("unicode", func() error {
		return all(publishes(client, "unicode", unicode), reads(other, "unicode", unicode))
	})
	large := strings.Repeat("0123456789abcdef", 64*1024)
	check("1 MiB", func() error {
		return all(publishes(client, "large", large), reads(other, "large", large))
	})
	check("remove", func() error {
		removes := func() error { return remove(client, "removed") }
		return all(publishes(client, "removed", "x"), reads(client, "removed", "x"), removes,
			reads(client, "removed", ""), removes)
	})
	check("namespaces are apart", func() error {
		inside := connect(nodes, "space-1")
		return all(publishes(inside, "plain", "inside"), reads(inside, "plain", "inside"),
			reads(client, "plain", nodes[len(nodes)-1]))
	})
	check("compare and set", func() error {
		if err := publish(client, "cas", "1"); err != nil {
			return err
		}
		first := fmt.Sprintf("%x", md5.Sum([]byte("1")))
		cas := func(content string) (bool, error) {
			return client.PublishConfig(vo.ConfigParam{DataId: "cas", Group: group, Content: content, CasMd5: first})
		}
		if done, err := cas("2"); err != nil || !done {
			return fmt.Errorf("the right md5 is refused: %v", err)
		}
		if done, _ := cas("3"); done {
			return errors.New("a wrong md5 is taken")
		}
		return becomes(client, "cas", "2")
	})
	check("a listener hears of creation, change and removal", func() error {
		err := client.ListenConfig(vo.ConfigParam{DataId: "heard", Group: group,
			OnChange: func(_, _, _, content string) { heard <- content }})
		if err != nil {
			return err
		}
		// It does not tell of a removal; the next content must come.
		return all(publishes(other, "heard", "created"), hears("created"),
			publishes(other, "heard", "changed"), hears("changed"),
			func() error { return remove(other, "heard") },
			publishes(other, "heard", "again"), hears("again"))
	})
	check("the same content is silent", func() error {
		if err := publish(other, "heard", "again"); err != nil {
			return err
		}
		select {
		case found := <-heard:
			return errors.New("heard: " + found)
		case <-time.After(3 * time.Second):
			return nil
		}
	})
	check("500 keys", func() error {
		var told sync.Map
		var count atomic.Int64
		for number := range 500 {
			err := client.ListenConfig(vo.ConfigParam{DataId: fmt.Sprintf("many-%d", number), Group: group,
				OnChange: func(_, _, _, _ string) {
					if _, again := told.LoadOrStore(number, true); !again {
						count.Add(1)
					}
				}})
			if err != nil {
				return err
			}
		}
		// A push that comes while it listens to keys is acknowledged and forgotten (it marks all keys
		// as in step with the server when the answer is there): a later change is heard.
		for round := range 9 {
			for number := range 500 {
				if _, heard := told.Load(number); heard {
					continue
				}
				if err := publish(other, fmt.Sprintf("many-%d", number), fmt.Sprint("told ", round)); err != nil {
					return err
				}
			}
			for tries := 0; tries < 100 && count.Load() < 500; tries++ {
				time.Sleep(100 * time.Millisecond)
			}
			if count.Load() == 500 {
				return nil
			}
		}
		return fmt.Errorf("%d were heard of", count.Load())
	})
	if len(nodes) > 1 {
		fmt.Println("KILL")
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		check("publish, get with a node killed", func() error {
			return all(func() error { return eventually(publishes(client, "plain", "after")) },
				reads(client, "plain", "after"))
		})
		check("a listener hears with a node killed", func() error {
			return all(func() error { return eventually(publishes(client, "heard", "after")) }, hears("after"))
		})
	}
	if failed > 0 {
		fmt.Println(failed, "failed")
		os.Exit(1)
	}
	fmt.Println("all passed")
}
