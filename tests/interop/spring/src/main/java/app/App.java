package app;

import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.boot.context.properties.ConfigurationProperties;
import org.springframework.boot.context.properties.EnableConfigurationProperties;
import org.springframework.cloud.context.config.annotation.RefreshScope;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.RestController;

/** Tells over HTTP what it has been configured with. */
@SpringBootApplication
@EnableConfigurationProperties(App.Limits.class)
public class App {
    public static void main(String[] args) {
        SpringApplication.run(App.class, args);
    }

    /** Bound anew after each change. */
    @ConfigurationProperties("limits")
    public static class Limits {
        private int most;

        public int getMost() {
            return most;
        }

        public void setMost(int most) {
            this.most = most;
        }
    }

    /** Made anew after each change. */
    @RestController
    @RefreshScope
    static class Said {
        private final Limits limits;
        private final String greeting;

        Said(Limits limits, @Value("${greeting:none}") String greeting) {
            this.limits = limits;
            this.greeting = greeting;
        }

        @GetMapping("/said")
        String said() {
            return greeting + " " + limits.getMost();
        }
    }
}
