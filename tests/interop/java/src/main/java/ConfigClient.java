// What a service does with configurations, through the client of Nacos for Java. Arguments: the
// addresses of the nodes. Prints a line for each case; asks for a node to be killed by the line
// KILL and goes on when it reads a line.

import com.alibaba.nacos.api.NacosFactory;
import com.alibaba.nacos.api.config.ConfigService;
import com.alibaba.nacos.api.config.listener.Listener;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Properties;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executor;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;

public class ConfigClient {
  interface Case {
    void run() throws Exception;
  }

  /** Longer than a long poll of the clients before 2.0. */
  static final int SOON = 45;
  static final String GROUP = "interop";

  static int failed;

  /** The client cannot do it, and why. */
  static class Lacks extends RuntimeException {
    Lacks(String why) {
      super(why);
    }
  }

  static void check(String name, Case body) {
    try {
      body.run();
      System.out.println("ok   " + name);
    } catch (Lacks lacks) {
      System.out.println("lacks " + name + ": " + lacks.getMessage());
    } catch (Throwable error) {
      failed++;
      System.out.println("FAIL " + name + ": " + error);
    }
  }

  static void same(Object expected, Object found) {
    if (expected == null ? found != null : !expected.equals(found)) {
      throw new AssertionError("expected " + shown(expected) + ", found " + shown(found));
    }
  }

  static String shown(Object value) {
    String text = String.valueOf(value);
    return text.length() < 80 ? text : text.substring(0, 80) + "…";
  }

  static ConfigService connect(String servers, String namespace) throws Exception {
    Properties properties = new Properties();
    properties.put("serverAddr", servers);
    if (namespace != null) {
      properties.put("namespace", namespace);
    }
    return NacosFactory.createConfigService(properties);
  }

  static class Heard implements Listener {
    final BlockingQueue<String> contents = new LinkedBlockingQueue<>();

    @Override
    public Executor getExecutor() {
      return null;
    }

    @Override
    public void receiveConfigInfo(String content) {
      contents.add(content == null ? "" : content);
    }

    void hears(String expected) throws Exception {
      // A client may tell of states in between.
      for (int left = 10; left > 0; left--) {
        String content = contents.poll(SOON, TimeUnit.SECONDS);
        if (content == null) {
          throw new AssertionError("not heard: " + shown(expected));
        }
        if (content.equals(expected)) {
          return;
        }
      }
      throw new AssertionError("other things heard than " + shown(expected));
    }
  }

  static String md5(String content) throws Exception {
    byte[] digest = MessageDigest.getInstance("MD5").digest(content.getBytes(StandardCharsets.UTF_8));
    StringBuilder hex = new StringBuilder();
    for (byte part : digest) {
      hex.append(String.format("%02x", part));
    }
    return hex.toString();
  }

  /** Read again until it is so: another node may be a moment behind. */
  static void becomes(ConfigService client, String key, String expected) throws Exception {
    String found = null;
    for (int left = 100; left > 0; left--) {
      found = client.getConfig(key, GROUP, 5000);
      if (expected == null ? found == null : expected.equals(found)) {
        return;
      }
      Thread.sleep(50);
    }
    same(expected, found);
  }

  public static void main(String[] nodes) throws Exception {
    String servers = String.join(",", nodes);
    ConfigService client = connect(servers, null);
    ConfigService other = connect(servers, null);

    check("publish, get", () -> {
      same(true, client.publishConfig("plain", GROUP, "a=1", "properties"));
      becomes(client, "plain", "a=1");
      becomes(other, "plain", "a=1");
    });
    check("get of nothing", () -> same(null, client.getConfig("absent", GROUP, 5000)));
    check("unicode", () -> {
      String content = "配置 ✓ \uD83D\uDE00 \n\t&=+%#\"'<>";
      same(true, client.publishConfig("unicode", GROUP, content));
      becomes(client, "unicode", content);
    });
    check("1 MiB", () -> {
      String content = "0123456789abcdef".repeat(64 * 1024);
      same(true, client.publishConfig("large", GROUP, content));
      becomes(other, "large", content);
    });
    check("remove", () -> {
      same(true, client.publishConfig("removed", GROUP, "x"));
      becomes(client, "removed", "x");
      same(true, client.removeConfig("removed", GROUP));
      becomes(client, "removed", null);
      same(true, client.removeConfig("removed", GROUP));
    });
    check("namespaces are apart", () -> {
      ConfigService inside = connect(servers, "space-1");
      same(true, inside.publishConfig("plain", GROUP, "inside"));
      becomes(inside, "plain", "inside");
      becomes(client, "plain", "a=1");
    });
    check("compare and set", () -> {
      java.lang.reflect.Method cas;
      try {
        cas = ConfigService.class.getMethod(
            "publishConfigCas", String.class, String.class, String.class, String.class);
      } catch (NoSuchMethodException error) {
        throw new Lacks("the client has none");
      }
      same(true, client.publishConfig("cas", GROUP, "1"));
      same(true, cas.invoke(client, "cas", GROUP, "2", md5("1")));
      Object won;
      try {
        won = cas.invoke(client, "cas", GROUP, "3", md5("1"));
      } catch (InvocationTargetException error) {
        won = false;
      }
      same(false, won);
      becomes(client, "cas", "2");
    });
    Heard heard = new Heard();
    check("a listener hears of creation, change and removal", () -> {
      client.addListener("heard", GROUP, heard);
      same(true, other.publishConfig("heard", GROUP, "created"));
      heard.hears("created");
      same(true, other.publishConfig("heard", GROUP, "changed"));
      heard.hears("changed");
      same(true, other.removeConfig("heard", GROUP));
      // Clients differ in how they tell of a removal, or do not tell; the next content must come.
      same(true, other.publishConfig("heard", GROUP, "again"));
      heard.hears("again");
    });
    check("the same content is silent", () -> {
      same(true, other.publishConfig("heard", GROUP, "again"));
      same(null, heard.contents.poll(3, TimeUnit.SECONDS));
    });
    check("500 keys", () -> {
      int count = 500;
      CountDownLatch all = new CountDownLatch(count);
      for (int number = 0; number < count; number++) {
        client.addListener("many-" + number, GROUP, new Listener() {
          @Override
          public Executor getExecutor() {
            return null;
          }

          @Override
          public void receiveConfigInfo(String content) {
            if ("told".equals(content)) {
              all.countDown();
            }
          }
        });
      }
      for (int number = 0; number < count; number++) {
        same(true, other.publishConfig("many-" + number, GROUP, "told"));
      }
      if (!all.await(2 * SOON, TimeUnit.SECONDS)) {
        throw new AssertionError(all.getCount() + " were not heard of");
      }
    });
    if (nodes.length > 1) {
      System.out.println("KILL");
      System.in.read();
      check("publish, get with a node killed", () -> {
        boolean done = false;
        for (int left = 20; left > 0 && !done; left--) {
          try {
            done = client.publishConfig("plain", GROUP, "after");
          } catch (Exception error) {
            Thread.sleep(500);
          }
        }
        same(true, done);
        becomes(client, "plain", "after");
      });
      check("a listener hears with a node killed", () -> {
        boolean done = false;
        for (int left = 20; left > 0 && !done; left--) {
          try {
            done = other.publishConfig("heard", GROUP, "after");
          } catch (Exception error) {
            Thread.sleep(500);
          }
        }
        same(true, done);
        heard.hears("after");
      });
    }
    System.out.println(failed == 0 ? "all passed" : failed + " failed");
    System.exit(failed == 0 ? 0 : 1);
  }
}
